package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2/awsec2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awslogs"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// Ports that the parts listen on.
const (
	managerPort  = 8080
	postgresPort = 5432
	redisPort    = 6379
	amqpPort     = 5671
)

// Network is where everything is and who reaches whom. All security groups and their rules are in its stack: a rule of another stack that
// names a group of a third one would make a circle of the three.
type Network struct {
	VPC awsec2.Vpc

	// Groups, each named for what carries it. Worker is not nil outside the VPC either: it costs nothing, and the switch keeps it.
	Balancer, Manager, Worker, Database, Cache, Broker awsec2.SecurityGroup
}

// newNetwork makes a VPC over two zones: public subnets for load balancer and NAT, private ones for Manager and workers, isolated ones,
// without a way out, for data.
func newNetwork(scope constructs.Construct, c *Config) *Network {
	stack := newStack(scope, c, "network", "VPC, endpoints and security groups")
	vpc := awsec2.NewVpc(stack, jsii.String("VPC"), &awsec2.VpcProps{
		IpAddresses:                  awsec2.IpAddresses_Cidr(jsii.String(c.VPCCIDR)),
		MaxAzs:                       jsii.Number(2),
		NatGateways:                  jsii.Number(float64(c.NATGateways)),
		RestrictDefaultSecurityGroup: jsii.Bool(false), // nothing carries it; restricting it takes a function with rights over every group
		SubnetConfiguration: &[]*awsec2.SubnetConfiguration{
			{Name: jsii.String("public"), SubnetType: awsec2.SubnetType_PUBLIC, MapPublicIpOnLaunch: jsii.Bool(false)},
			{Name: jsii.String("private"), SubnetType: privateSubnets(c)},
			{Name: jsii.String("data"), SubnetType: awsec2.SubnetType_PRIVATE_ISOLATED},
		},
	})
	logs := newLogGroup(stack, c, "FlowLogs", "/gmaps/"+string(c.Stage)+"/flow")
	vpc.AddFlowLog(jsii.String("Flow"), &awsec2.FlowLogOptions{
		Destination: awsec2.FlowLogDestination_ToCloudWatchLogs(logs, nil),
		TrafficType: awsec2.FlowLogTrafficType_REJECT, // what was refused is what one looks for; ALL is a bill
	})
	n := &Network{VPC: vpc}
	n.addGroups(stack, c)
	n.addEndpoints(stack, c)
	return n
}

// privateSubnets have a way out through NAT, if there is any. Without NAT the same subnets are isolated, and endpoints take its place.
func privateSubnets(c *Config) awsec2.SubnetType {
	if c.NATGateways == 0 {
		return awsec2.SubnetType_PRIVATE_ISOLATED
	}
	return awsec2.SubnetType_PRIVATE_WITH_EGRESS
}

func (n *Network) public() *awsec2.SubnetSelection {
	return &awsec2.SubnetSelection{SubnetGroupName: jsii.String("public")}
}

func (n *Network) private() *awsec2.SubnetSelection {
	return &awsec2.SubnetSelection{SubnetGroupName: jsii.String("private")}
}

func (n *Network) data() *awsec2.SubnetSelection {
	return &awsec2.SubnetSelection{SubnetGroupName: jsii.String("data")}
}

func (n *Network) addGroups(scope constructs.Construct, c *Config) {
	group := func(id, what string, out bool) awsec2.SecurityGroup {
		return awsec2.NewSecurityGroup(scope, jsii.String(id), &awsec2.SecurityGroupProps{
			Vpc: n.VPC, Description: jsii.String(what), AllowAllOutbound: jsii.Bool(out), DisableInlineRules: jsii.Bool(true),
		})
	}
	n.Balancer = group("BalancerGroup", "gmaps load balancer", false)
	n.Manager = group("ManagerGroup", "gmaps Manager", false)
	n.Worker = group("WorkerGroup", "gmaps workers", true) // proxies listen on any port
	n.Database = group("DatabaseGroup", "gmaps PostgreSQL", false)
	n.Cache = group("CacheGroup", "gmaps Valkey", false)
	n.Broker = group("BrokerGroup", "gmaps RabbitMQ", false)

	listener := pick(c.https(), 443, 80)
	for _, cidr := range c.allow() {
		n.Balancer.AddIngressRule(awsec2.Peer_Ipv4(jsii.String(cidr)), awsec2.Port_Tcp(jsii.Number(float64(listener))), jsii.String("people"), nil)
	}
	for _, rule := range *n.Balancer.Node().Children() {
		if in, ok := rule.(awsec2.CfnSecurityGroupIngress); ok && *in.CidrIp() == "0.0.0.0/0" {
			acknowledge(in, "AwsSolutions-EC23", "people and public workers come from anywhere, on 443 only; everything but readiness asks for a key")
		}
	}
	n.Manager.AddEgressRule(awsec2.Peer_AnyIpv4(), awsec2.Port_Tcp(jsii.Number(443)), jsii.String("AWS's own APIs"), nil)
	between := func(from, to awsec2.SecurityGroup, port float64, what string) {
		to.AddIngressRule(from, awsec2.Port_Tcp(jsii.Number(port)), jsii.String(what), nil)
		if from != n.Worker {
			from.AddEgressRule(to, awsec2.Port_Tcp(jsii.Number(port)), jsii.String(what), nil)
		}
	}
	between(n.Balancer, n.Manager, managerPort, "requests and health checks")
	between(n.Worker, n.Manager, managerPort, "leases and results")
	between(n.Manager, n.Database, postgresPort, "the store")
	between(n.Manager, n.Cache, redisPort, "hints")
	between(n.Worker, n.Cache, redisPort, "hints")
	between(n.Manager, n.Broker, amqpPort, "the bell")
	between(n.Worker, n.Broker, amqpPort, "the bell")
	output(scope, "WorkerGroupId", "for a worker of your own in this VPC", *n.Worker.SecurityGroupId())
}

// addEndpoints keeps traffic to AWS off NAT: S3, where images' layers are, always, since that way is free.
func (n *Network) addEndpoints(scope constructs.Construct, c *Config) {
	n.VPC.AddGatewayEndpoint(jsii.String("S3"), &awsec2.GatewayVpcEndpointOptions{Service: awsec2.GatewayVpcEndpointAwsService_S3()})
	if !c.InterfaceEndpoints {
		return
	}
	group := awsec2.NewSecurityGroup(scope, jsii.String("EndpointGroup"), &awsec2.SecurityGroupProps{
		Vpc: n.VPC, Description: jsii.String("gmaps endpoints"), AllowAllOutbound: jsii.Bool(false), DisableInlineRules: jsii.Bool(true),
	})
	for _, from := range []awsec2.SecurityGroup{n.Manager, n.Worker} {
		group.AddIngressRule(from, awsec2.Port_Tcp(jsii.Number(443)), jsii.String("AWS's own APIs"), nil)
	}
	services := map[string]awsec2.InterfaceVpcEndpointAwsService{
		"ECR": awsec2.InterfaceVpcEndpointAwsService_ECR(), "ECRDocker": awsec2.InterfaceVpcEndpointAwsService_ECR_DOCKER(),
		"Logs": awsec2.InterfaceVpcEndpointAwsService_CLOUDWATCH_LOGS(), "Secrets": awsec2.InterfaceVpcEndpointAwsService_SECRETS_MANAGER(),
		"Lambda": awsec2.InterfaceVpcEndpointAwsService_LAMBDA(),
	}
	if c.Execute {
		services["Exec"] = awsec2.InterfaceVpcEndpointAwsService_SSM_MESSAGES()
	}
	for _, id := range sortedKeys(services) {
		n.VPC.AddInterfaceEndpoint(jsii.String(id), &awsec2.InterfaceVpcEndpointOptions{
			Service: services[id], Subnets: n.private(), SecurityGroups: &[]awsec2.ISecurityGroup{group}, Open: jsii.Bool(false),
		})
	}
}

// newLogGroup keeps logs for as long as the stage says, and beyond their stack only in prod.
func newLogGroup(scope constructs.Construct, c *Config, id, name string) awslogs.LogGroup {
	return awslogs.NewLogGroup(scope, jsii.String(id), &awslogs.LogGroupProps{
		LogGroupName: jsii.String(name), Retention: retention(c.LogDays), RemovalPolicy: c.removal(),
	})
}

func retention(days int) awslogs.RetentionDays {
	return map[int]awslogs.RetentionDays{
		1: awslogs.RetentionDays_ONE_DAY, 3: awslogs.RetentionDays_THREE_DAYS, 5: awslogs.RetentionDays_FIVE_DAYS,
		7: awslogs.RetentionDays_ONE_WEEK, 14: awslogs.RetentionDays_TWO_WEEKS, 30: awslogs.RetentionDays_ONE_MONTH,
		60: awslogs.RetentionDays_TWO_MONTHS, 90: awslogs.RetentionDays_THREE_MONTHS, 180: awslogs.RetentionDays_SIX_MONTHS,
		365: awslogs.RetentionDays_ONE_YEAR,
	}[days]
}
