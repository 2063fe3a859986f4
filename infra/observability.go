package main

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsbudgets"
	"github.com/aws/aws-cdk-go/awscdk/v2/awscloudwatch"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awskms"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awspipes"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssns"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// ObservabilityProps are the parts to look at. Data and Manager may be nil: the worker's Manager is elsewhere then.
type ObservabilityProps struct {
	Data    *Data
	Worker  *Worker
	Manager *Manager
}

// watcher collects alarms and the widgets of the dashboard.
type watcher struct {
	stack awscdk.Stack
	c     *Config
	topic awssns.Topic
	rows  [][]awscloudwatch.IWidget
}

func newObservability(scope constructs.Construct, c *Config, p ObservabilityProps) {
	stack := newStack(scope, c, "observability", "dashboard, alarms, budget and failed events")
	w := &watcher{stack: stack, c: c, topic: newTopic(stack, c)}
	if p.Manager != nil {
		w.manager(p.Manager)
	}
	w.worker(p.Worker)
	if p.Data != nil {
		w.database(p.Data)
	}
	if c.BudgetUSD > 0 {
		addBudget(stack, c)
	}
	dashboard := awscloudwatch.NewDashboard(stack, text("Dashboard"), &awscloudwatch.DashboardProps{DashboardName: text("gmaps-" + string(c.Stage))})
	for _, row := range w.rows {
		dashboard.AddWidgets(row...)
	}
}

// newTopic is where alarms go. Its key is our own: CloudWatch may not use the one that AWS manages for SNS.
func newTopic(stack awscdk.Stack, c *Config) awssns.Topic {
	key := awskms.NewKey(stack, text("Key"), &awskms.KeyProps{
		Description: text("gmaps alarms"), EnableKeyRotation: jsii.Bool(true), RemovalPolicy: awscdk.RemovalPolicy_DESTROY, PendingWindow: awscdk.Duration_Days(jsii.Number(7)),
	})
	key.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(text("cloudwatch.amazonaws.com"), nil)},
		Actions:    jsii.Strings("kms:Decrypt", "kms:GenerateDataKey"), Resources: jsii.Strings("*"), // in a key's policy: this key
		Conditions: &map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": stack.Account()}},
	}), nil)
	topic := awssns.NewTopic(stack, text("Alarms"), &awssns.TopicProps{DisplayName: text("gmaps " + string(c.Stage)), MasterKey: key, EnforceSSL: jsii.Bool(true)})
	topic.AddToResourcePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Principals: &[]awsiam.IPrincipal{awsiam.NewServicePrincipal(text("cloudwatch.amazonaws.com"), nil)},
		Actions:    jsii.Strings("sns:Publish"), Resources: &[]*string{topic.TopicArn()},
		Conditions: &map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": stack.Account()}},
	}))
	if c.AlarmEmail != "" {
		awssns.NewCfnSubscription(stack, text("Email"), &awssns.CfnSubscriptionProps{TopicArn: topic.TopicArn(), Protocol: text("email"), Endpoint: text(c.AlarmEmail)})
	}
	output(stack, "AlarmTopic", "alarms are published here", *topic.TopicArn())
	return topic
}

// alarm writes when metric is at or above threshold for so many of its periods. missing says what no data means.
func (w *watcher) alarm(id, what string, metric awscloudwatch.IMetric, threshold float64, periods int, missing awscloudwatch.TreatMissingData, below bool) {
	alarm := awscloudwatch.NewAlarm(w.stack, text(id), &awscloudwatch.AlarmProps{
		AlarmName: text(w.c.name(id)), AlarmDescription: text(what), Metric: metric, Threshold: jsii.Number(threshold),
		EvaluationPeriods: jsii.Number(float64(periods)), TreatMissingData: missing,
		ComparisonOperator: pick(below, awscloudwatch.ComparisonOperator_LESS_THAN_THRESHOLD, awscloudwatch.ComparisonOperator_GREATER_THAN_OR_EQUAL_TO_THRESHOLD),
	})
	resource := alarm.Node().DefaultChild().(awscloudwatch.CfnAlarm)
	resource.SetAlarmActions(&[]*string{w.topic.TopicArn()})
	resource.SetOkActions(&[]*string{w.topic.TopicArn()})
}

const quiet = awscloudwatch.TreatMissingData_NOT_BREACHING

func (w *watcher) row(widgets ...awscloudwatch.IWidget) { w.rows = append(w.rows, widgets) }

func graph(title string, metrics ...awscloudwatch.IMetric) awscloudwatch.IWidget {
	return awscloudwatch.NewGraphWidget(&awscloudwatch.GraphWidgetProps{Title: text(title), Left: &metrics, Width: jsii.Number(8), Height: jsii.Number(6)})
}

func metric(namespace, name, statistic string, minutes float64, dimensions map[string]*string) awscloudwatch.Metric {
	return awscloudwatch.NewMetric(&awscloudwatch.MetricProps{
		Namespace: text(namespace), MetricName: text(name), Statistic: text(statistic), Period: awscdk.Duration_Minutes(jsii.Number(minutes)), DimensionsMap: &dimensions,
	})
}

// logged counts lines of a log group, from its JSON.
func (w *watcher) logged(id string, group awslogs.LogGroup, pattern string) awscloudwatch.Metric {
	awslogs.NewMetricFilter(w.stack, text(id+"Lines"), &awslogs.MetricFilterProps{
		LogGroup: group, FilterPattern: awslogs.FilterPattern_Literal(text(pattern)), MetricNamespace: text(metricsNamespace(w.c)), MetricName: text(id), MetricValue: text("1"),
	})
	return metric(metricsNamespace(w.c), id, "Sum", 5, nil)
}

func (w *watcher) manager(m *Manager) {
	breaker := w.logged("BreakerOpened", m.Logs, `{ $.msg = "breaker opened" }`)
	failed := w.logged("SpawnFailed", m.Logs, `{ ($.msg = "worker ended" && ($.outcome = "create_error" || $.outcome = "never_leased" || $.outcome = "vanished")) || $.msg = "silent worker ended" }`)
	w.alarm("spawn-failures", "Workers do not start: the Manager's log line 'breaker opened' says why. "+
		"Throttled: lower maxConcurrency or ask for more. Access denied: the task role.", breaker, 1, 1, quiet, false)
	w.alarm("spawn-ends", "Five workers in 5 minutes ended without having worked.", failed, 5, 1, quiet, false)

	balancer := map[string]*string{"LoadBalancer": m.Balancer.LoadBalancerFullName()}
	targets := map[string]*string{"LoadBalancer": m.Balancer.LoadBalancerFullName(), "TargetGroup": m.Targets.TargetGroupFullName()}
	refused := metric("AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", "Sum", 5, balancer)
	broken := metric("AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", "Sum", 5, balancer)
	healthy := metric("AWS/ApplicationELB", "HealthyHostCount", "Minimum", 1, targets)
	w.alarm("elb-5xx", "The load balancer finds no Manager that is ready.", refused, 10, 1, quiet, false)
	w.alarm("manager-5xx", "The Manager fails requests: its log line 'request failed' says why.", broken, 10, 1, quiet, false)
	w.alarm("no-manager", "No Manager is ready: /readyz says what it lacks.", healthy, 1, 3, awscloudwatch.TreatMissingData_BREACHING, true)
	if w.c.MetricsImage != none {
		waits := metric(metricsNamespace(w.c), "gmaps_oldest_waiting_job_seconds", "Maximum", 1, nil)
		w.alarm("oldest-job", "A job with open tasks has had no worker for 10 minutes: it shows why it waits.", waits, 600, 5, quiet, false)
		w.alarm("no-metrics", "No Manager has told its metrics for 15 minutes, so that oldest-job is blind.",
			metric(metricsNamespace(w.c), "gmaps_store_up", "Minimum", 5, nil), 1, 3, awscloudwatch.TreatMissingData_BREACHING, true)
		w.row(graph("Oldest job without a worker (s)", waits), graph("Leases", metric(metricsNamespace(w.c), "gmaps_leases_live", "Maximum", 1, nil)),
			graph("Places stored", metric(metricsNamespace(w.c), "gmaps_results_stored", "Maximum", 1, nil)))
	}
	w.row(graph("Workers that failed", breaker, failed), graph("5xx", refused, broken), graph("Managers ready", healthy))
}

func (w *watcher) worker(k *Worker) {
	function := func(name, statistic string) awscloudwatch.Metric {
		return metric("AWS/Lambda", name, statistic, 5, map[string]*string{"FunctionName": k.Function.FunctionName()})
	}
	throttles, errs, dropped := function("Throttles", "Sum"), function("Errors", "Sum"), function("AsyncEventsDropped", "Sum")
	w.alarm("throttles", "Lambda has no environment free: maxConcurrency is above what the account has, or others use it.", throttles, 1, 1, quiet, false)
	w.alarm("worker-errors", "Invocations failed: the function's log says why.", errs, 5, 1, quiet, false)
	w.alarm("events-dropped", "Events waited for longer than a minute and were given up; the Manager spawns anew.", dropped, 1, 1, quiet, false)
	queue := metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", "Maximum", 5, map[string]*string{"QueueName": k.Failures.QueueName()})
	w.alarm("failures-stay", "The pipe does not empty the failure queue.", queue, 1, 3, quiet, false)
	failed := metric("AWS/Logs", "IncomingLogEvents", "Sum", 5, map[string]*string{"LogGroupName": w.drain(k).LogGroupName()})
	w.alarm("failed-events", "An event that the Manager sent led to no worker: see the log group of failed events.", failed, 1, 1, quiet, false)
	w.row(graph("Invocations", function("Invocations", "Sum"), function("ConcurrentExecutions", "Maximum")), graph("Errors", errs, throttles, dropped),
		graph("Failed events", failed, queue))
	w.row(graph("Duration (ms)", function("Duration", "Average"), function("Duration", "Maximum")), graph("Event age (ms)", function("AsyncEventAge", "Maximum")))
}

// drain brings failed events from their queue into a log group, without the worker's token that they carry. The Manager ends such a spawn
// by itself when its worker has not spoken in time; here is the reason for people.
func (w *watcher) drain(k *Worker) awslogs.LogGroup {
	logs := newLogGroup(w.stack, w.c, "FailedEvents", "/gmaps/"+string(w.c.Stage)+"/failed-events")
	role := awsiam.NewRole(w.stack, text("PipeRole"), &awsiam.RoleProps{AssumedBy: awsiam.NewServicePrincipal(text("pipes.amazonaws.com"), &awsiam.ServicePrincipalOpts{
		Conditions: &map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": w.stack.Account()}},
	})})
	k.Failures.GrantConsumeMessages(role)
	role.AddToPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions: jsii.Strings("logs:CreateLogStream", "logs:PutLogEvents"), Resources: &[]*string{logs.LogGroupArn()},
	}))
	policy := role.Node().FindChild(text("DefaultPolicy"))
	pipe := awspipes.NewCfnPipe(w.stack, text("Pipe"), &awspipes.CfnPipeProps{
		Description: text("gmaps: failed events to a log group"), RoleArn: role.RoleArn(), Source: k.Failures.QueueArn(), Target: logs.LogGroupArn(),
		TargetParameters: &awspipes.CfnPipe_PipeTargetParametersProperty{InputTemplate: text(`{"msg":"event failed","condition":<$.body.requestContext.condition>,` +
			`"request":<$.body.requestContext.requestId>,"job":<$.body.requestPayload.job_id>,"spawn":<$.body.requestPayload.spawn_id>,` +
			`"error":<$.body.responsePayload.errorMessage>}`)},
		Tags: &map[string]*string{"project": text("gmaps-scraper"), "stage": text(string(w.c.Stage))},
	})
	pipe.Node().AddDependency(policy) // a pipe that may not read its queue is refused
	return logs
}

func (w *watcher) database(d *Data) {
	of := func(name, statistic string) awscloudwatch.Metric {
		return metric("AWS/RDS", name, statistic, 5, map[string]*string{"DBInstanceIdentifier": text(d.DatabaseID)})
	}
	free, cpu, connections := of("FreeStorageSpace", "Minimum"), of("CPUUtilization", "Average"), of("DatabaseConnections", "Maximum")
	gib := float64(w.c.DatabaseStorageGiB) / 10
	w.alarm("database-storage", fmt.Sprintf("Less than %g GiB are free: growing has not kept up, or its limit is reached.", gib), free, gib*(1<<30), 1, quiet, true)
	w.alarm("database-cpu", "The database is busy above 80 % for 15 minutes.", cpu, 80, 3, quiet, false)
	w.row(graph("Database: free bytes", free), graph("Database: CPU (%)", cpu), graph("Database: connections", connections))
}

// addBudget watches what the whole account costs: a budget of tagged things alone stays at 0 until somebody activates the tags for billing,
// and would never ring.
func addBudget(stack awscdk.Stack, c *Config) {
	var notify []*awsbudgets.CfnBudget_NotificationWithSubscribersProperty
	if c.AlarmEmail != "" {
		for _, n := range []struct {
			kind    string
			percent float64
		}{{"ACTUAL", 80}, {"FORECASTED", 100}} {
			notify = append(notify, &awsbudgets.CfnBudget_NotificationWithSubscribersProperty{
				Notification: &awsbudgets.CfnBudget_NotificationProperty{NotificationType: text(n.kind), ComparisonOperator: text("GREATER_THAN"), Threshold: jsii.Number(n.percent), ThresholdType: text("PERCENTAGE")},
				Subscribers:  []*awsbudgets.CfnBudget_SubscriberProperty{{SubscriptionType: text("EMAIL"), Address: text(c.AlarmEmail)}},
			})
		}
	}
	awsbudgets.NewCfnBudget(stack, text("Budget"), &awsbudgets.CfnBudgetProps{
		Budget: &awsbudgets.CfnBudget_BudgetDataProperty{
			BudgetName: text(c.name("monthly")), BudgetType: text("COST"), TimeUnit: text("MONTHLY"),
			BudgetLimit: &awsbudgets.CfnBudget_SpendProperty{Amount: jsii.Number(float64(c.BudgetUSD)), Unit: text("USD")},
		},
		NotificationsWithSubscribers: notify,
		ResourceTags: []*awsbudgets.CfnBudget_ResourceTagProperty{
			{Key: text("project"), Value: text("gmaps-scraper")}, {Key: text("stage"), Value: text(string(c.Stage))},
		},
	})
}
