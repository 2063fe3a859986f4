package main

import (
	"fmt"
	"os"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecr"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambda"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslambdadestinations"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssqs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// timeoutSeconds is Lambda's longest. A worker hands its tasks back before it, and the Manager starts the next.
const timeoutSeconds = 900

// Worker is the function that the Manager invokes, and where the events end that never ran.
type Worker struct {
	Function awslambda.IFunction
	Logs     awslogs.LogGroup
	Failures awssqs.Queue
}

// WorkerProps are what a worker may use. With none of it, it runs outside any VPC and speaks to its Manager alone.
type WorkerProps struct {
	Network     *Network
	Data        *Data
	Placeholder string // stands in for a function.zip that is not built
}

func newWorker(scope constructs.Construct, c *Config, p WorkerProps) *Worker {
	stack := newStack(scope, c, "worker", "the Lambda function that scrapes")
	failures := awssqs.NewQueue(stack, text("Failures"), &awssqs.QueueProps{
		Encryption: awssqs.QueueEncryption_SQS_MANAGED, EnforceSSL: jsii.Bool(true), RetentionPeriod: awscdk.Duration_Days(jsii.Number(14)),
		VisibilityTimeout: awscdk.Duration_Minutes(jsii.Number(2)), RemovalPolicy: c.removal(),
	})
	acknowledge(failures, "AwsSolutions-SQS3", "it is itself where events go that failed")
	code := c.FunctionZip
	if _, err := os.Stat(code); err != nil {
		code = p.Placeholder
		// Without a default: cdk deploy refuses a stack whose parameters have no value, by name, before it uploads anything.
		awscdk.NewCfnParameter(stack, text("FunctionZipIsMissingRunMakeLambda"), &awscdk.CfnParameterProps{
			Type: text("String"), Description: text(c.FunctionZip + " was not there at synth: run make lambda and deploy again"),
		})
	}
	b := workerBuilder{stack, c, p, failures}
	w := &Worker{Failures: failures}
	http, httpLogs := b.function("worker", "", func(props *awslambda.FunctionProps) awslambda.Function {
		props.Runtime, props.Handler = awslambda.Runtime_PROVIDED_AL2023(), text("bootstrap")
		props.Code = awslambda.Code_FromAsset(text(code), nil)
		return awslambda.NewFunction(stack, text("Function"), props)
	})
	w.Function, w.Logs = http, httpLogs
	if c.BrowserImage != "" {
		name, tag := splitImage(c.BrowserImage)
		repository := awsecr.Repository_FromRepositoryName(stack, text("BrowserImages"), text(name))
		browser, browserLogs := b.function("worker-browser", "Browser", func(props *awslambda.FunctionProps) awslambda.Function {
			props.Runtime, props.Handler = awslambda.Runtime_FROM_IMAGE(), awslambda.Handler_FROM_IMAGE()
			props.Code = awslambda.Code_FromEcrImage(repository, &awslambda.EcrImageCodeProps{TagOrDigest: text(tag)})
			props.MemorySize = jsii.Number(float64(max(c.WorkerMemoryMiB, 2048))) // Chromium
			props.EphemeralStorageSize = awscdk.Size_Mebibytes(jsii.Number(1024))
			return awslambda.NewFunction(stack, text("BrowserFunction"), props)
		})
		if c.Spawn == "browser" {
			w.Function, w.Logs = browser, browserLogs
		}
	}
	output(stack, "SpawnerFlags", "for the Manager: gmaps-scraper -manager …", joinFlags(w.flags(c)))
	if Part(c.Only) == WorkerOnly {
		output(stack, "ManagerNeeds", "rights of the Manager's AWS identity", "lambda:InvokeFunction and lambda:GetFunction on "+*w.Function.FunctionArn())
		if c.ManagerURL != "" {
			output(stack, "ManagerURLFlag", "where workers find the Manager", "-spawner-manager-url "+c.ManagerURL)
		}
	}
	return w
}

// flags are those of the Manager that spawns this worker.
func (w *Worker) flags(c *Config) []string {
	return []string{
		"-spawner", "lambda", "-spawner-lambda-function", *w.Function.FunctionArn(), "-spawner-lambda-region", c.Region,
		"-spawner-lambda-invocation", "Event", "-spawner-lambda-max-conc", fmt.Sprint(c.MaxConcurrency),
	}
}

type workerBuilder struct {
	stack    awscdk.Stack
	c        *Config
	p        WorkerProps
	failures awssqs.Queue
}

// function makes one function with its role and log group. id tells the second one's parts from the first one's.
func (b workerBuilder) function(part, id string, create func(*awslambda.FunctionProps) awslambda.Function) (awslambda.Function, awslogs.LogGroup) {
	c := b.c
	name := c.name(part)
	logs := newLogGroup(b.stack, c, id+"Logs", "/aws/lambda/"+name)
	role := b.role(id+"Role", name, logs)
	props := &awslambda.FunctionProps{
		FunctionName: text(name), Description: text("gmaps-scraper worker: leases tasks from its Manager until there are none"),
		Role: role, LogGroup: logs, Architecture: pick(c.Architecture == "arm64", awslambda.Architecture_ARM_64(), awslambda.Architecture_X86_64()),
		Timeout: awscdk.Duration_Seconds(jsii.Number(timeoutSeconds)), MemorySize: jsii.Number(float64(c.WorkerMemoryMiB)),
		Environment: b.environment(),
		// A spawn that fails is the Manager's to start again: it knows whether there is still work. An event that waits for longer than a
		// minute finds its spawn given up.
		RetryAttempts: jsii.Number(0), MaxEventAge: awscdk.Duration_Seconds(jsii.Number(60)), OnFailure: awslambdadestinations.NewSqsDestination(b.failures),
	}
	if c.ReserveConcurrency {
		props.ReservedConcurrentExecutions = jsii.Number(float64(c.MaxConcurrency))
	}
	if !c.public() {
		props.Vpc, props.VpcSubnets = b.p.Network.VPC, b.p.Network.private()
		props.SecurityGroups = &[]awsec2.ISecurityGroup{b.p.Network.Worker}
	}
	return create(props), logs
}

// role lets the function log, read its secrets and, in the VPC, have an address. It has no right at all over the database.
func (b workerBuilder) role(id, function string, logs awslogs.LogGroup) awsiam.Role {
	role := awsiam.NewRole(b.stack, text(id), &awsiam.RoleProps{
		AssumedBy: awsiam.NewServicePrincipal(text("lambda.amazonaws.com"), nil), Description: text("gmaps-scraper worker"),
	})
	allow := func(actions, resources []string) {
		role.AddToPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Actions: jsii.Strings(actions...), Resources: jsii.Strings(resources...)}))
	}
	allow([]string{"logs:CreateLogStream", "logs:PutLogEvents"}, []string{*logs.LogGroupArn()})
	if secrets := b.secrets(); len(secrets) > 0 {
		allow([]string{"secretsmanager:GetSecretValue"}, secrets)
	}
	if b.c.public() {
		return role
	}
	interfaces := []string{
		"ec2:CreateNetworkInterface", "ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:DeleteNetworkInterface",
		"ec2:AssignPrivateIpAddresses", "ec2:UnassignPrivateIpAddresses",
	}
	allow(interfaces, []string{"*"})
	// Lambda needs them to attach the function; the function's code does not (Lambda Developer Guide, VPC permissions).
	role.AddToPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Effect: awsiam.Effect_DENY, Actions: jsii.Strings(interfaces...), Resources: jsii.Strings("*"),
		Conditions: &map[string]any{"ArnEquals": map[string]any{"lambda:SourceFunctionArn": *b.stack.FormatArn(&awscdk.ArnComponents{
			Service: text("lambda"), Resource: text("function"), ResourceName: text(function), ArnFormat: awscdk.ArnFormat_COLON_RESOURCE_NAME,
		})}},
	}))
	acknowledge(role.Node().FindChild(text("DefaultPolicy")), "AwsSolutions-IAM5", "network interfaces have no name before they are made; the code itself is denied them")
	return role
}

// secrets are the ARNs that the function resolves by itself.
func (b workerBuilder) secrets() []string {
	var arns []string
	if b.c.ProxiesSecret != "" {
		arns = append(arns, b.c.ProxiesSecret)
	}
	if d := b.p.Data; d != nil && !b.c.public() {
		for _, s := range []awssecretsmanager.ISecret{d.RedisPassword, d.RabbitMQ} {
			if s != nil {
				arns = append(arns, *s.SecretArn())
			}
		}
	}
	return arns
}

// environment is how the function fetches, and references to secrets, never secrets.
func (b workerBuilder) environment() *map[string]*string {
	env := map[string]*string{"GMAPS_LOG_FORMAT": text("json")}
	if b.c.MapsURL != "" {
		env["GMAPS_MAPS_URL"] = text(b.c.MapsURL)
	}
	if b.c.ProxiesSecret != "" {
		env["GMAPS_PROXIES"] = text(b.c.ProxiesSecret)
	}
	if b.c.Rate > 0 {
		env["GMAPS_RATE"] = text(fmt.Sprint(b.c.Rate))
	}
	if d := b.p.Data; d != nil && d.RedisPassword != nil && !b.c.public() {
		env["GMAPS_REDIS_PASSWORD"], env["GMAPS_REDIS_TLS"] = d.RedisPassword.SecretArn(), text("true")
		// All leave by NAT's address: by this name they share one polite rate. With two gateways they are half as fast as they might be.
		env["GMAPS_EXIT_NAME"] = text(b.c.name("nat"))
	}
	return &env
}
