package main

import (
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/jsii-runtime-go"
)

// collected are the Manager's metrics that go to CloudWatch: those without labels, each one series. Every Manager reports the store's
// numbers, so that their maximum is the truth.
var collected = []string{"gmaps_oldest_waiting_job_seconds", "gmaps_leases_live", "gmaps_results_stored", "gmaps_store_up", "gmaps_spawn_breaker_state"}

// metricsNamespace is where CloudWatch has them.
func metricsNamespace(c *Config) string { return "gmaps/" + string(c.Stage) }

// collect adds the collector that reads /metrics once a minute. The Manager does not need it to live.
func (m *Manager) collect(stack awscdk.Stack, c *Config, task awsecs.FargateTaskDefinition) {
	group := newLogGroup(stack, c, "Metrics", "/gmaps/"+string(c.Stage)+"/metrics")
	const config = `receivers:
  prometheus:
    config:
      scrape_configs:
        - job_name: manager
          scrape_interval: 60s
          static_configs: [{targets: ["127.0.0.1:8080"]}]
          metric_relabel_configs: [{source_labels: [__name__], regex: "COLLECTED", action: keep}]
exporters:
  awsemf:
    namespace: NAMESPACE
    log_group_name: LOG_GROUP
    log_stream_name: collector
    dimension_rollup_option: NoDimensionRollup
    resource_to_telemetry_conversion: {enabled: false}
    metric_declarations: [{dimensions: [[]], metric_name_selectors: ["^(COLLECTED)$"]}]
service:
  pipelines:
    metrics: {receivers: [prometheus], exporters: [awsemf]}
`
	task.AddContainer(text("collector"), &awsecs.ContainerDefinitionOptions{
		Image: containerImage(stack, "CollectorImage", c.MetricsImage, nil), Essential: jsii.Bool(false), ReadonlyRootFilesystem: jsii.Bool(true),
		Environment: &map[string]*string{"AOT_CONFIG_CONTENT": text(strings.NewReplacer(
			"COLLECTED", strings.Join(collected, "|"), "NAMESPACE", metricsNamespace(c), "LOG_GROUP", "/gmaps/"+string(c.Stage)+"/metrics",
		).Replace(config))},
		MemoryReservationMiB: jsii.Number(64),
		Logging:              awsecs.LogDriver_AwsLogs(&awsecs.AwsLogDriverProps{LogGroup: m.Logs, StreamPrefix: text("collector"), Mode: awsecs.AwsLogDriverMode_NON_BLOCKING}),
	})
	task.AddToTaskRolePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions: jsii.Strings("logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"), Resources: &[]*string{group.LogGroupArn()},
	}))
	acknowledge(task, "AwsSolutions-ECS2", "the collector's variable is its configuration: it holds no secret; secrets come by reference")
}
