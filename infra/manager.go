package main

import (
	"fmt"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsapplicationautoscaling"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecr"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awselasticloadbalancingv2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsroute53"
	"github.com/aws/aws-cdk-go/awscdk/v2/awss3"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsservicediscovery"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// Manager is the service behind its load balancer.
type Manager struct {
	Service  awsecs.FargateService
	Balancer awselasticloadbalancingv2.ApplicationLoadBalancer
	Targets  awselasticloadbalancingv2.ApplicationTargetGroup
	Logs     awslogs.LogGroup
}

// ManagerProps are what the Manager uses. Registry holds its image unless Config.Image names another.
type ManagerProps struct {
	Network  *Network
	Data     *Data
	Worker   *Worker
	Registry awsecr.IRepository
}

func newManager(scope constructs.Construct, c *Config, p ManagerProps) *Manager {
	stack := newStack(scope, c, "manager", "the Manager's service and load balancer")
	m := &Manager{Logs: newLogGroup(stack, c, "Logs", "/gmaps/"+string(c.Stage)+"/manager")}
	settings := &awsecs.ClusterProps{
		Vpc: p.Network.VPC, ContainerInsightsV2: pick(c.prod(), awsecs.ContainerInsights_ENABLED, awsecs.ContainerInsights_DISABLED),
	}
	if c.Execute { // what is typed there is written down
		settings.ExecuteCommandConfiguration = &awsecs.ExecuteCommandConfiguration{
			Logging: awsecs.ExecuteCommandLogging_OVERRIDE, LogConfiguration: &awsecs.ExecuteCommandLogConfiguration{CloudWatchLogGroup: m.Logs},
		}
	}
	cluster := awsecs.NewCluster(stack, text("Cluster"), settings)
	if !c.prod() {
		acknowledge(cluster, "AwsSolutions-ECS4", "dev does without the cost of its metrics; those of the Manager itself are there")
	}
	task, container := m.task(stack, c, p)
	namespace := awsservicediscovery.NewPrivateDnsNamespace(stack, text("Namespace"), &awsservicediscovery.PrivateDnsNamespaceProps{
		Name: text(privateZone(c)), Vpc: p.Network.VPC,
	})
	m.Service = awsecs.NewFargateService(stack, text("Service"), &awsecs.FargateServiceProps{
		Cluster: cluster, TaskDefinition: task, DesiredCount: jsii.Number(float64(c.Managers)), ServiceName: text(c.name("manager")),
		VpcSubnets: pick(c.openManager(), p.Network.public(), p.Network.private()), AssignPublicIp: jsii.Bool(c.openManager()),
		SecurityGroups: &[]awsec2.ISecurityGroup{p.Network.Manager},
		CircuitBreaker: &awsecs.DeploymentCircuitBreaker{Enable: jsii.Bool(true), Rollback: jsii.Bool(true)},
		// The new one is ready before the old one drains: workers see no gap.
		MinHealthyPercent: jsii.Number(100), MaxHealthyPercent: jsii.Number(200), HealthCheckGracePeriod: awscdk.Duration_Seconds(jsii.Number(120)),
		EnableExecuteCommand: jsii.Bool(c.Execute), PropagateTags: awsecs.PropagatedTagSource_SERVICE, EnableECSManagedTags: jsii.Bool(true),
		CloudMapOptions: &awsecs.CloudMapOptions{
			Name: text("manager"), CloudMapNamespace: namespace, Container: container, DnsRecordType: awsservicediscovery.DnsRecordType_A,
			DnsTtl: awscdk.Duration_Seconds(jsii.Number(10)),
		},
	})
	if c.ManagersMax > c.Managers {
		m.Service.AutoScaleTaskCount(&awsapplicationautoscaling.EnableScalingProps{MinCapacity: jsii.Number(float64(c.Managers)), MaxCapacity: jsii.Number(float64(c.ManagersMax))}).
			ScaleOnCpuUtilization(text("CPU"), &awsecs.CpuUtilizationScalingProps{TargetUtilizationPercent: jsii.Number(60)})
	}
	if c.Execute {
		acknowledge(task.TaskRole().Node().FindChild(text("DefaultPolicy")), "AwsSolutions-IAM5", "the channels of ECS Exec, which execute asked for, know no resources")
	}
	m.balance(stack, c, p)
	m.restartOnRotation(stack, p, cluster)
	return m
}

func privateZone(c *Config) string { return "gmaps-" + string(c.Stage) + ".internal" }

// managerURL is where workers find the Manager: by a private name in the VPC, and outside it by the public one.
func managerURL(c *Config) string {
	if c.public() {
		return "https://" + c.Domain
	}
	return fmt.Sprintf("http://manager.%s:%d", privateZone(c), managerPort)
}

// managerFlags is the Manager's command line: no secret is in it.
func managerFlags(c *Config, p ManagerProps) []string {
	flags := []string{"-manager", "-addr", fmt.Sprintf(":%d", managerPort), "-data-dir", "/data", "-log-format", "json", "-dsn", p.Data.dsn(c)}
	if p.Data.RedisAddr != "" {
		flags = append(flags, "-redis-addr", p.Data.RedisAddr, "-redis-tls")
	}
	flags = append(flags, p.Worker.flags(c)...)
	flags = append(flags, "-spawner-manager-url", managerURL(c))
	if c.public() { // they cannot reach cache and broker
		flags = append(flags, "-spawner-share-services=false")
	} else if p.Data.RabbitMQ != nil {
		flags = append(flags, "-spawner-lambda-rabbitmq-secret", *p.Data.RabbitMQ.SecretArn()+":url::")
	}
	if c.MetricsImage != none { // the collector beside it asks without a key; the load balancer lets nobody ask
		flags = append(flags, "-open-metrics")
	}
	return flags
}

func (m *Manager) task(stack awscdk.Stack, c *Config, p ManagerProps) (awsecs.FargateTaskDefinition, awsecs.ContainerDefinition) {
	task := awsecs.NewFargateTaskDefinition(stack, text("Task"), &awsecs.FargateTaskDefinitionProps{
		Family: text(c.name("manager")), Cpu: jsii.Number(float64(c.ManagerCPU)), MemoryLimitMiB: jsii.Number(float64(c.ManagerMemoryMiB)),
		RuntimePlatform: &awsecs.RuntimePlatform{
			OperatingSystemFamily: awsecs.OperatingSystemFamily_LINUX(),
			CpuArchitecture:       pick(c.Architecture == "arm64", awsecs.CpuArchitecture_ARM64(), awsecs.CpuArchitecture_X86_64()),
		},
		Volumes: &[]*awsecs.Volume{{Name: text("data")}, {Name: text("tmp")}},
	})
	task.AddToTaskRolePolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{
		Actions: jsii.Strings("lambda:InvokeFunction", "lambda:GetFunction"), Resources: &[]*string{p.Worker.Function.FunctionArn()},
	}))
	key := awssecretsmanager.NewSecret(stack, text("APIKey"), &awssecretsmanager.SecretProps{
		Description: text("gmaps Manager: API key"), RemovalPolicy: c.removal(),
		GenerateSecretString: &awssecretsmanager.SecretStringGenerator{PasswordLength: jsii.Number(43), ExcludePunctuation: jsii.Bool(true)},
	})
	acknowledge(key, "AwsSolutions-SMG4", "people and scripts hold it: a new one is theirs to time; -api-key takes the old and the new, comma-separated")
	secrets := map[string]awsecs.Secret{
		"GMAPS_API_KEY": awsecs.Secret_FromSecretsManager(key, nil),
		"PGPASSWORD":    awsecs.Secret_FromSecretsManager(p.Data.DatabaseSecret, text("password")),
	}
	if p.Data.RedisPassword != nil {
		secrets["GMAPS_REDIS_PASSWORD"] = awsecs.Secret_FromSecretsManager(p.Data.RedisPassword, nil)
	}
	if p.Data.RabbitMQ != nil {
		secrets["GMAPS_RABBITMQ_URL"] = awsecs.Secret_FromSecretsManager(p.Data.RabbitMQ, text("url"))
	}
	flags := managerFlags(c, p)
	container := task.AddContainer(text("manager"), &awsecs.ContainerDefinitionOptions{
		Image: containerImage(stack, "Image", c.Image, p.Registry), Command: jsii.Strings(flags...), Secrets: &secrets, Essential: jsii.Bool(true),
		PortMappings:           &[]*awsecs.PortMapping{{ContainerPort: jsii.Number(managerPort)}},
		ReadonlyRootFilesystem: jsii.Bool(!c.Execute), // ECS Exec puts its agent there
		LinuxParameters:        noCapabilities(stack),
		HealthCheck: &awsecs.HealthCheck{
			Command: jsii.Strings("CMD", "/gmaps-scraper", "-health"), Interval: awscdk.Duration_Seconds(jsii.Number(10)), Timeout: awscdk.Duration_Seconds(jsii.Number(6)),
			Retries: jsii.Number(3), StartPeriod: awscdk.Duration_Seconds(jsii.Number(60)),
		},
		StopTimeout: awscdk.Duration_Seconds(jsii.Number(60)),
		Logging:     awsecs.LogDriver_AwsLogs(&awsecs.AwsLogDriverProps{LogGroup: m.Logs, StreamPrefix: text("manager"), Mode: awsecs.AwsLogDriverMode_NON_BLOCKING}),
	})
	container.AddMountPoints(
		&awsecs.MountPoint{SourceVolume: text("data"), ContainerPath: text("/data"), ReadOnly: jsii.Bool(false)},
		&awsecs.MountPoint{SourceVolume: text("tmp"), ContainerPath: text("/tmp"), ReadOnly: jsii.Bool(false)},
	)
	if c.MetricsImage != none {
		m.collect(stack, c, task)
	}
	acknowledge(task.ExecutionRole().Node().FindChild(text("DefaultPolicy")), "AwsSolutions-IAM5", "ecr:GetAuthorizationToken is for the whole registry; it reads nothing by itself")
	output(stack, "ManagerFlags", "what the service runs; a Manager of your own in this VPC runs with the same", joinFlags(flags))
	output(stack, "APIKeyCommand", "prints the API key", "aws secretsmanager get-secret-value --region "+c.Region+" --query SecretString --output text --secret-id "+*key.SecretArn())
	return task, container
}

func noCapabilities(scope constructs.Construct) awsecs.LinuxParameters {
	l := awsecs.NewLinuxParameters(scope, text("Linux"), nil)
	l.DropCapabilities(awsecs.Capability_ALL)
	return l
}

// balance puts the load balancer before the service: HTTPS with a certificate, else HTTP for those that the configuration names.
func (m *Manager) balance(stack awscdk.Stack, c *Config, p ManagerProps) {
	m.Balancer = awselasticloadbalancingv2.NewApplicationLoadBalancer(stack, text("Balancer"), &awselasticloadbalancingv2.ApplicationLoadBalancerProps{
		Vpc: p.Network.VPC, InternetFacing: jsii.Bool(true), SecurityGroup: p.Network.Balancer, DeletionProtection: jsii.Bool(c.prod()),
		DropInvalidHeaderFields: jsii.Bool(true), // A worker's poll takes 30 s, a stream is silent for 15 s at most. The Manager closes its side after 120 s: if the load balancer's time were
		// as long, it would send requests into connections just closed, and answer 502.
		IdleTimeout: awscdk.Duration_Seconds(jsii.Number(60)),
		VpcSubnets:  &awsec2.SubnetSelection{SubnetType: awsec2.SubnetType_PUBLIC},
	})
	if c.prod() {
		m.logRequests(stack, c)
	} else {
		acknowledge(m.Balancer, "AwsSolutions-ELB2", "a bucket of access logs is one more thing that dev would leave behind")
	}
	props := &awselasticloadbalancingv2.BaseApplicationListenerProps{Open: jsii.Bool(false)} // the groups' rules are the network's
	if c.https() {
		props.Port, props.Protocol, props.SslPolicy = jsii.Number(443), awselasticloadbalancingv2.ApplicationProtocol_HTTPS, awselasticloadbalancingv2.SslPolicy_RECOMMENDED_TLS
		props.Certificates = &[]awselasticloadbalancingv2.IListenerCertificate{awselasticloadbalancingv2.ListenerCertificate_FromArn(text(c.Certificate))}
	} else {
		props.Port, props.Protocol = jsii.Number(80), awselasticloadbalancingv2.ApplicationProtocol_HTTP
	}
	listener := m.Balancer.AddListener(text("Listener"), props)
	m.Targets = listener.AddTargets(text("Manager"), &awselasticloadbalancingv2.AddApplicationTargetsProps{
		Port: jsii.Number(managerPort), Protocol: awselasticloadbalancingv2.ApplicationProtocol_HTTP,
		Targets: &[]awselasticloadbalancingv2.IApplicationLoadBalancerTarget{m.Service.LoadBalancerTarget(&awsecs.LoadBalancerTargetOptions{
			ContainerName: text("manager"), ContainerPort: jsii.Number(managerPort),
		})},
		DeregistrationDelay: awscdk.Duration_Seconds(jsii.Number(40)),
		HealthCheck: &awselasticloadbalancingv2.HealthCheck{
			Path: text("/readyz"), Interval: awscdk.Duration_Seconds(jsii.Number(10)), Timeout: awscdk.Duration_Seconds(jsii.Number(5)),
			HealthyThresholdCount: jsii.Number(2), UnhealthyThresholdCount: jsii.Number(6), HealthyHttpCodes: text("200"),
		},
	})
	listener.AddAction(text("NoMetrics"), &awselasticloadbalancingv2.AddApplicationActionProps{
		Priority: jsii.Number(1), Conditions: &[]awselasticloadbalancingv2.ListenerCondition{awselasticloadbalancingv2.ListenerCondition_PathPatterns(jsii.Strings("/metrics"))},
		Action: awselasticloadbalancingv2.ListenerAction_FixedResponse(jsii.Number(404), &awselasticloadbalancingv2.FixedResponseOptions{
			ContentType: text("text/plain"), MessageBody: text("not here\n"),
		}),
	})
	url := "http://" + *m.Balancer.LoadBalancerDnsName()
	if c.https() {
		url = "https://" + c.Domain
		m.name(stack, c)
	}
	output(stack, "URL", "dashboard and API", url)
}

// name gives the load balancer its domain, or says which record does.
func (m *Manager) name(stack awscdk.Stack, c *Config) {
	if c.HostedZone == "" {
		output(stack, "CNAME", "make "+c.Domain+" a CNAME of this", *m.Balancer.LoadBalancerDnsName())
		return
	}
	id, _, _ := strings.Cut(c.HostedZone, "=")
	awsroute53.NewCfnRecordSet(stack, text("Record"), &awsroute53.CfnRecordSetProps{
		HostedZoneId: text(id), Name: text(c.Domain + "."), Type: text("A"),
		AliasTarget: &awsroute53.CfnRecordSet_AliasTargetProperty{
			DnsName: m.Balancer.LoadBalancerDnsName(), HostedZoneId: m.Balancer.LoadBalancerCanonicalHostedZoneId(),
		},
	})
}

func (m *Manager) logRequests(stack awscdk.Stack, c *Config) {
	bucket := awss3.NewBucket(stack, text("AccessLogs"), &awss3.BucketProps{
		Encryption: awss3.BucketEncryption_S3_MANAGED, BlockPublicAccess: awss3.BlockPublicAccess_BLOCK_ALL(), EnforceSSL: jsii.Bool(true),
		RemovalPolicy: c.removal(), ObjectOwnership: awss3.ObjectOwnership_BUCKET_OWNER_ENFORCED,
		LifecycleRules: &[]*awss3.LifecycleRule{{Expiration: awscdk.Duration_Days(jsii.Number(float64(c.LogDays)))}},
	})
	m.Balancer.LogAccessLogs(bucket, text("balancer"))
	acknowledge(bucket, "AwsSolutions-S1", "it holds access logs itself")
}
