package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
)

var update = flag.Bool("update", false, "write testdata/*.golden.json")

func eachVariant(t *testing.T, f func(t *testing.T, c *Config, stacks []stack)) {
	t.Helper()
	for _, v := range sortedKeys(variants) {
		t.Run(strings.ReplaceAll(v, " ", "_"), func(t *testing.T) {
			c, stacks := stacksOf(t, v)
			f(t, c, stacks)
		})
	}
}

// TestTwoSynthesesAreTheSame runs the program itself beside the synthesis of the other tests, and without a network if this user may make such
// a place.
func TestTwoSynthesesAreTheSame(t *testing.T) {
	alone := []string{"unshare", "--user", "--map-root-user", "--net"}
	if exec.CommandContext(t.Context(), alone[0], append(alone[1:], "true")...).Run() != nil {
		t.Log("the program has a network too: unshare --net is not allowed here")
		alone = nil
	}
	for _, v := range []string{"dev", "prod"} {
		args := []string{"-c", "functionZip=" + noZip}
		for _, k := range sortedKeys(variants[v]) {
			args = append(args, "-c", fmt.Sprint(k, "=", variants[v][k]))
		}
		out := t.TempDir()
		words := append(slices.Clone(alone), os.Args[0])
		cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
		cmd.Dir = ".." // where cdk.json is
		cmd.Env = append(os.Environ(), "INFRA_TEST_RUN="+strings.Join(args, " "), "CDK_OUTDIR="+out)
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		_, stacks := stacksOf(t, v)
		if diff := cmp.Diff(files(t, filepath.Dir(stacks[0].file)), files(t, out)); diff != "" {
			t.Errorf("%s: two syntheses differ (-first +second):\n%s", v, diff)
		}
	}
}

// files are those of a cloud assembly; of those of an asset the names, which are their hashes.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 10 {
		t.Fatalf("read %s: %d files, %v", dir, len(entries), err)
	}
	found := map[string]string{}
	for _, e := range entries {
		found[e.Name()] = ""
		if strings.HasSuffix(e.Name(), ".json") {
			b, err := os.ReadFile(filepath.Join(dir, e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			found[e.Name()] = string(b)
		}
	}
	return found
}

func TestWorkerIsWhatTheManagerExpects(t *testing.T) {
	eachVariant(t, func(t *testing.T, c *Config, stacks []stack) {
		functions := resources(stacks, "AWS::Lambda::Function")
		if want := pick(c.BrowserImage != "", 2, 1); len(functions) != want {
			t.Fatalf("got %d functions, want %d", len(functions), want)
		}
		for _, f := range functions {
			p := f.at("Properties").(map[string]any)
			if got := p["Timeout"]; got != 900.0 {
				t.Errorf("%s: timeout %v, want 900 s", f.name, got)
			}
			if got := p["MemorySize"].(float64); got < 1024 || got < float64(c.WorkerMemoryMiB) {
				t.Errorf("%s: memory %v MiB, want at least 1024 and %d", f.name, got, c.WorkerMemoryMiB)
			}
			var reserved any
			if c.ReserveConcurrency {
				reserved = float64(c.MaxConcurrency)
			}
			if got := p["ReservedConcurrentExecutions"]; got != reserved {
				t.Errorf("%s: reserved concurrency %v, want %v", f.name, got, reserved)
			}
			if _, got := p["VpcConfig"]; got != !(c.public() || c.Only == "worker") {
				t.Errorf("%s: in the VPC: %v, with workerNetwork=%s only=%s", f.name, got, c.WorkerNetwork, c.Only)
			}
			if got, want := flat(p["Architectures"]), pick(c.Architecture == "arm64", "arm64", "x86_64"); got != want {
				t.Errorf("%s: architecture %s, want %s", f.name, got, want)
			}
			if p["PackageType"] != "Image" && (p["Runtime"] != "provided.al2023" || p["Handler"] != "bootstrap") {
				t.Errorf("%s: runtime %v, handler %v", f.name, p["Runtime"], p["Handler"])
			}
			shares := !c.public() && c.Only == string(All) && c.Cache != none
			if got := at(p, "Environment", "Variables", "GMAPS_EXIT_NAME") != nil; got != shares {
				t.Errorf("%s: shares its address's rate: %v, want %v", f.name, got, shares)
			}
			group := strings.Trim(flat(at(p, "LoggingConfig", "LogGroup")), "${}")
			logs := one(t, stacks, "AWS::Logs::LogGroup", "worker/"+group)
			if got := logs.at("Properties", "RetentionInDays"); got != float64(c.LogDays) {
				t.Errorf("%s: logs are kept for %v days, want %d", f.name, got, c.LogDays)
			}
		}
		queue := one(t, stacks, "AWS::SQS::Queue", "worker/Failures")
		invokes := resources(stacks, "AWS::Lambda::EventInvokeConfig")
		if len(invokes) != len(functions) {
			t.Errorf("got %d asynchronous configurations, want one for each function", len(invokes))
		}
		for _, r := range invokes {
			if r.at("Properties", "MaximumRetryAttempts") != 0.0 || r.at("Properties", "MaximumEventAgeInSeconds") != 60.0 {
				t.Errorf("%s: retries %v, event age %v s; want 0 and 60", r.name, r.at("Properties", "MaximumRetryAttempts"), r.at("Properties", "MaximumEventAgeInSeconds"))
			}
			want := "${" + strings.TrimPrefix(queue.name, "worker/") + ".Arn}"
			if got := flat(r.at("Properties", "DestinationConfig", "OnFailure", "Destination")); got != want {
				t.Errorf("%s: failed events go to %q, want %q", r.name, got, want)
			}
		}
	})
}

func TestOneNumberIsConcurrencyAndItsFlag(t *testing.T) {
	_, stacks := stacksOf(t, "prod with everything")
	f := one(t, stacks, "AWS::Lambda::Function", "worker/Function")
	if got := f.at("Properties", "ReservedConcurrentExecutions"); got != 37.0 {
		t.Errorf("reserved concurrency %v, want 37", got)
	}
	if flags := managerCommand(t, stacks); !strings.Contains(flags, "-spawner-lambda-max-conc 37 ") {
		t.Errorf("no -spawner-lambda-max-conc 37 in %s", flags)
	}
}

func managerCommand(t *testing.T, stacks []stack) string {
	t.Helper()
	containers := one(t, stacks, "AWS::ECS::TaskDefinition", "").at("Properties", "ContainerDefinitions").([]any)
	return strings.Join(strs(at(containers[0], "Command")), " ") + " "
}

func TestOnlyTheManagerInvokesOnlyTheWorker(t *testing.T) {
	eachVariant(t, func(t *testing.T, c *Config, stacks []stack) {
		invoke := regexp.MustCompile(`^(\*|lambda:(\*|Invoke.*))$`)
		n := 0
		for _, s := range statements(stacks) {
			if !slices.ContainsFunc(s.actions, invoke.MatchString) {
				continue
			}
			n++
			want := pick(c.Spawn == "browser", "BrowserFunction", "GetAttFunction")
			if len(s.resources) != 1 || !strings.HasPrefix(s.resources[0], "${gmaps-") || !strings.Contains(s.resources[0], want) || strings.HasSuffix(s.resources[0], "*") {
				t.Errorf("%s may invoke %v, want the worker alone", s.of.name, s.resources)
			}
			if !strings.HasPrefix(s.of.name, "manager/TaskTaskRole") || !cmp.Equal(s.actions, []string{"lambda:GetFunction", "lambda:InvokeFunction"}) {
				t.Errorf("%s may %v", s.of.name, s.actions)
			}
		}
		if want := pick(c.Only == "worker", 0, 1); n != want {
			t.Errorf("got %d statements that let somebody invoke a function, want %d", n, want)
		}
		if p := resources(stacks, "AWS::Lambda::Permission"); len(p) > 0 {
			t.Errorf("%s lets others invoke", p[0].name)
		}
	})
}

// wildcards are the actions that may be allowed on any resource, and why.
var wildcards = map[string]string{
	"ecr:GetAuthorizationToken":        "the login of a whole registry",
	"ec2:CreateNetworkInterface":       "has no name before it is made",
	"ec2:DescribeNetworkInterfaces":    "knows no resources",
	"ec2:DescribeSubnets":              "knows no resources",
	"ec2:DeleteNetworkInterface":       "has no name before it is made",
	"ec2:AssignPrivateIpAddresses":     "has no name before it is made",
	"ec2:UnassignPrivateIpAddresses":   "has no name before it is made",
	"ssmmessages:CreateControlChannel": "knows no resources; with execute",
	"ssmmessages:CreateDataChannel":    "knows no resources; with execute",
	"ssmmessages:OpenControlChannel":   "knows no resources; with execute",
	"ssmmessages:OpenDataChannel":      "knows no resources; with execute",
	"logs:DescribeLogGroups":           "knows no resources; with execute",
}

func TestWildcardsAreOnTheList(t *testing.T) {
	eachVariant(t, func(t *testing.T, c *Config, stacks []stack) {
		all := statements(stacks)
		if len(all) < 3 {
			t.Fatalf("only %d statements were found", len(all))
		}
		for _, s := range all {
			for _, a := range s.actions {
				if s.effect == "Allow" && strings.Contains(a, "*") {
					t.Errorf("%s: action %s", s.of.name, a)
				}
				if s.effect == "Allow" && slices.Contains(s.resources, "*") && wildcards[a] == "" {
					t.Errorf("%s: %s on every resource is not on the list", s.of.name, a)
				}
			}
		}
		for _, r := range resources(stacks, "AWS::IAM::Role") {
			if managed := r.at("Properties", "ManagedPolicyArns"); managed != nil {
				t.Errorf("%s: takes AWS's policies %s, whose rights change without us", r.name, flat(managed))
			}
		}
	})
}

func TestWorkerMayNothingButItsWork(t *testing.T) {
	eachVariant(t, func(t *testing.T, c *Config, stacks []stack) {
		allowed := regexp.MustCompile(`^(logs:(CreateLogStream|PutLogEvents)|secretsmanager:GetSecretValue|sqs:(SendMessage|GetQueueAttributes|GetQueueUrl)|ec2:\w*(NetworkInterface|NetworkInterfaces|PrivateIpAddresses|Subnets))$`)
		n := 0
		for _, s := range statements(stacks) {
			if !strings.HasPrefix(s.of.name, "worker/") || s.effect != "Allow" {
				continue
			}
			n++
			for _, a := range s.actions {
				if !allowed.MatchString(a) || strings.HasPrefix(a, "ec2:") && (c.public() || c.Only == "worker") {
					t.Errorf("%s may %s", s.of.name, a)
				}
			}
			if strings.Contains(strings.Join(s.resources, " "), "Database") {
				t.Errorf("%s reaches the database's %v", s.of.name, s.resources)
			}
		}
		if n == 0 {
			t.Error("no statement of the worker was found")
		}
	})
}

func TestWhoReachesWhom(t *testing.T) {
	hash := regexp.MustCompile(`^\$\{(\w+?)Group[0-9A-F]{8}\.GroupId\}$`)
	group := func(v any) string {
		if m := hash.FindStringSubmatch(flat(v)); m != nil {
			return m[1]
		}
		return flat(v)
	}
	eachVariant(t, func(t *testing.T, c *Config, stacks []stack) {
		if c.Only == "worker" {
			if g := resources(stacks, "AWS::EC2::SecurityGroup"); len(g) > 0 {
				t.Errorf("%s has no use here", g[0].name)
			}
			return
		}
		var got []string
		for _, r := range resources(stacks, "AWS::EC2::SecurityGroup") {
			if in := r.at("Properties", "SecurityGroupIngress"); in != nil {
				t.Errorf("%s has rules of its own, which this test does not read: %s", r.name, flat(in))
			}
		}
		for _, r := range resources(stacks, "AWS::EC2::SecurityGroupIngress") {
			p := r.at("Properties").(map[string]any)
			if p["FromPort"] != p["ToPort"] || p["IpProtocol"] != "tcp" {
				t.Errorf("%s: %v %v to %v, want one TCP port", r.name, p["IpProtocol"], p["FromPort"], p["ToPort"])
			}
			from := pick(p["CidrIp"] != nil, flat(p["CidrIp"]), group(p["SourceSecurityGroupId"]))
			got = append(got, fmt.Sprintf("%s > %s:%v", from, group(p["GroupId"]), p["FromPort"]))
		}
		want := []string{
			"Balancer > Manager:8080", "Worker > Manager:8080", "Manager > Database:5432",
			"Manager > Cache:6379", "Worker > Cache:6379", "Manager > Broker:5671", "Worker > Broker:5671",
		}
		switch {
		case c.Allow != "":
			want = append(want, c.Allow+" > Balancer:443")
		case c.https():
			want = append(want, "0.0.0.0/0 > Balancer:443")
		}
		if c.InterfaceEndpoints {
			want = append(want, "Manager > Endpoint:443", "Worker > Endpoint:443")
		}
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("rules (-want +got):\n%s", diff)
		}
		// The other half: who may be called must also be let out by the caller's group. A group without a rule of its own is let out everywhere by
		// EC2, so that each has one, of nothing if need be.
		var out, wantOut []string
		for _, rule := range got {
			if from, _, _ := strings.Cut(rule, " "); from != "Worker" && !strings.Contains(from, ".") && !strings.HasSuffix(rule, "Endpoint:443") {
				wantOut = append(wantOut, rule)
			}
		}
		wantOut = append(wantOut, "Manager > 0.0.0.0/0:443", "Worker > everything")
		shut := map[string]bool{}
		for _, r := range resources(stacks, "AWS::EC2::SecurityGroup") {
			if r.at("Properties", "SecurityGroupEgress") != nil {
				t.Errorf("%s has rules of its own, which this test does not read", r.name)
			}
		}
		for _, r := range resources(stacks, "AWS::EC2::SecurityGroupEgress") {
			p := r.at("Properties").(map[string]any)
			from := group(p["GroupId"])
			shut[from] = true
			switch {
			case p["CidrIp"] == "255.255.255.255/32":
			case p["IpProtocol"] == "-1":
				out = append(out, from+" > everything")
			default:
				to := pick(p["CidrIp"] != nil, flat(p["CidrIp"]), group(p["DestinationSecurityGroupId"]))
				out = append(out, fmt.Sprintf("%s > %s:%v", from, to, p["FromPort"]))
			}
		}
		for _, r := range resources(stacks, "AWS::EC2::SecurityGroup") {
			if name := group("${" + strings.TrimPrefix(r.name, "network/") + ".GroupId}"); !shut[name] {
				t.Errorf("%s (%s) has no rule, so EC2 lets it out everywhere", r.name, name)
			}
		}
		slices.Sort(out)
		slices.Sort(wantOut)
		if diff := cmp.Diff(wantOut, out); diff != "" {
			t.Errorf("rules of what goes out (-want +got):\n%s", diff)
		}
		for _, kind := range []string{"AWS::RDS::DBInstance", "AWS::AmazonMQ::Broker"} {
			for _, r := range resources(stacks, kind) {
				if r.at("Properties", "PubliclyAccessible") != false {
					t.Errorf("%s is open to the internet", r.name)
				}
			}
		}
	})
}

// kinds says of each type of resource whether it holds what a deletion would lose, and whether it can carry tags. A type that is not here
// is an error: somebody must think.
var kinds = map[string]struct{ stateful, untaggable bool }{
	"AWS::AmazonMQ::Broker":                       {stateful: true},
	"AWS::ApplicationAutoScaling::ScalableTarget": {untaggable: true},
	"AWS::ApplicationAutoScaling::ScalingPolicy":  {untaggable: true},
	"AWS::Budgets::Budget":                        {},
	"AWS::CDK::Metadata":                          {untaggable: true},
	"AWS::CloudWatch::Alarm":                      {},
	"AWS::CloudWatch::Dashboard":                  {untaggable: true},
	"AWS::EC2::EIP":                               {},
	"AWS::EC2::FlowLog":                           {},
	"AWS::EC2::InternetGateway":                   {},
	"AWS::EC2::NatGateway":                        {},
	"AWS::EC2::Route":                             {untaggable: true},
	"AWS::EC2::RouteTable":                        {},
	"AWS::EC2::SecurityGroup":                     {},
	"AWS::EC2::SecurityGroupEgress":               {untaggable: true},
	"AWS::EC2::SecurityGroupIngress":              {untaggable: true},
	"AWS::EC2::Subnet":                            {},
	"AWS::EC2::SubnetRouteTableAssociation":       {untaggable: true},
	"AWS::EC2::VPC":                               {},
	"AWS::EC2::VPCEndpoint":                       {},
	"AWS::EC2::VPCGatewayAttachment":              {untaggable: true},
	"AWS::ECR::Repository":                        {stateful: true},
	"AWS::ECS::Cluster":                           {},
	"AWS::ECS::Service":                           {},
	"AWS::ECS::TaskDefinition":                    {},
	"AWS::ElastiCache::ParameterGroup":            {},
	"AWS::ElastiCache::ReplicationGroup":          {stateful: true},
	"AWS::ElastiCache::SubnetGroup":               {},
	"AWS::ElasticLoadBalancingV2::Listener":       {untaggable: true},
	"AWS::ElasticLoadBalancingV2::ListenerRule":   {untaggable: true},
	"AWS::ElasticLoadBalancingV2::LoadBalancer":   {},
	"AWS::ElasticLoadBalancingV2::TargetGroup":    {},
	"AWS::Events::Rule":                           {},
	"AWS::IAM::Policy":                            {untaggable: true},
	"AWS::IAM::Role":                              {},
	"AWS::KMS::Key":                               {}, // of the alarms' topic: nothing is kept under it
	"AWS::Lambda::EventInvokeConfig":              {untaggable: true},
	"AWS::Lambda::Function":                       {},
	"AWS::Logs::LogGroup":                         {stateful: true},
	"AWS::Logs::MetricFilter":                     {untaggable: true},
	"AWS::Pipes::Pipe":                            {},
	"AWS::RDS::DBInstance":                        {stateful: true},
	"AWS::RDS::DBParameterGroup":                  {},
	"AWS::RDS::DBSubnetGroup":                     {},
	"AWS::Route53::RecordSet":                     {untaggable: true},
	"AWS::S3::Bucket":                             {stateful: true},
	"AWS::S3::BucketPolicy":                       {untaggable: true},
	"AWS::SNS::Subscription":                      {untaggable: true},
	"AWS::SNS::Topic":                             {},
	"AWS::SNS::TopicPolicy":                       {untaggable: true},
	"AWS::SQS::Queue":                             {stateful: true},
	"AWS::SQS::QueuePolicy":                       {untaggable: true},
	"AWS::SecretsManager::Secret":                 {stateful: true},
	"AWS::ServiceDiscovery::PrivateDnsNamespace":  {},
	"AWS::ServiceDiscovery::Service":              {},
	"AWS::StepFunctions::StateMachine":            {},
}

func TestProdKeepsEverythingAndDevNothing(t *testing.T) {
	eachVariant(t, func(t *testing.T, c *Config, stacks []stack) {
		n := 0
		for _, r := range resources(stacks, "") {
			k, known := kinds[r.kind]
			if !known {
				t.Errorf("%s: whether %s holds data is not known: add it to kinds", r.name, r.kind)
			}
			if !k.stateful {
				continue
			}
			n++
			// Not Retain when it is deleted: what a first deployment made before it failed would stay, and its name would refuse the second.
			for p, keeps := range map[string]string{"DeletionPolicy": "RetainExceptOnCreate", "UpdateReplacePolicy": "Retain"} {
				kept := r.body[p] == keeps || r.body[p] == "Snapshot"
				if !c.prod() && r.body[p] != "Delete" || c.prod() && !kept {
					t.Errorf("%s: %s is %v in %s", r.name, p, r.body[p], c.Stage)
				}
			}
		}
		if n < 2 {
			t.Errorf("only %d stateful resources were found", n)
		}
		for _, r := range resources(stacks, "AWS::RDS::DBInstance") {
			if got := r.at("Properties", "DeletionProtection"); got != c.prod() {
				t.Errorf("%s: deletion protection %v in %s", r.name, got, c.Stage)
			}
			if left := r.at("Properties", "EnableCloudwatchLogsExports") != nil; left && !c.prod() {
				t.Errorf("%s writes to a log group that no stack removes", r.name)
			}
			if r.at("Properties", "StorageEncrypted") != true || r.at("Properties", "ManageMasterUserPassword") != true {
				t.Errorf("%s is not encrypted, or its password is not RDS's to rotate", r.name)
			}
		}
		for _, r := range resources(stacks, "AWS::ECR::Repository") {
			if got := r.at("Properties", "EmptyOnDelete") == true; got == c.prod() {
				t.Errorf("%s: emptied when it is deleted: %v in %s", r.name, got, c.Stage)
			}
		}
	})
	for _, v := range []string{"dev", "prod"} {
		_, stacks := stacksOf(t, v)
		manifest, err := os.ReadFile(filepath.Join(filepath.Dir(stacks[0].file), "manifest.json"))
		if err != nil {
			t.Fatal(err)
		}
		want := pick(v == "prod", len(stacks), 0)
		if got := strings.Count(string(manifest), `"terminationProtection": true`); got != want {
			t.Errorf("%s: %d stacks are protected from termination, want %d", v, got, want)
		}
	}
}

func TestNATGatewaysAreAsManyAsAsked(t *testing.T) {
	eachVariant(t, func(t *testing.T, c *Config, stacks []stack) {
		want := pick(c.Only == "worker", 0, c.NATGateways)
		if got := len(resources(stacks, "AWS::EC2::NatGateway")); got != want {
			t.Errorf("got %d NAT gateways, want %d", got, want)
		}
	})
}

func TestEverythingIsTagged(t *testing.T) {
	eachVariant(t, func(t *testing.T, c *Config, stacks []stack) {
		for _, r := range resources(stacks, "") {
			if kinds[r.kind].untaggable {
				continue
			}
			tags := map[string]string{}
			for _, property := range []string{"Tags", "ResourceTags"} {
				switch list := r.at("Properties", property).(type) {
				case []any:
					for _, tag := range list {
						tags[flat(at(tag, "Key"))] = flat(at(tag, "Value"))
					}
				case map[string]any:
					for k, v := range list {
						tags[k] = flat(v)
					}
				}
			}
			if tags["project"] != "gmaps-scraper" || tags["stage"] != string(c.Stage) {
				t.Errorf("%s (%s): tags %v", r.name, r.kind, tags)
			}
		}
	})
}

// TestNoSecretIsInATemplate looks at everything that is called a secret, and for values that look like one anywhere.
func TestNoSecretIsInATemplate(t *testing.T) {
	called := regexp.MustCompile(`(?i)(password|passwd|authtoken|secretstring$|api_?key|dsn$|rabbitmq_url|token$)`)
	looks := regexp.MustCompile(`AKIA[0-9A-Z]{16}|://[^/\s:@]*:[^{}/\s@]+@|-----BEGIN`)
	reference := regexp.MustCompile(`^(\$\{[^}]+\}(:\w*::)?|arn:aws:secretsmanager:\S+|.*\{\{resolve:secretsmanager:.+\}\}.*)$`)
	eachVariant(t, func(t *testing.T, c *Config, stacks []stack) {
		seen := 0
		var walk func(where string, v any)
		walk = func(where string, v any) {
			key := where[strings.LastIndexByte(where, '.')+1:]
			if m, ok := v.(map[string]any); ok {
				if _, ok := m["Name"].(string); ok && (m["Value"] != nil || m["ValueFrom"] != nil) { // an ECS variable
					name := m["Name"].(string)
					walk(where+"."+name, pick(m["Value"] != nil, m["Value"], m["ValueFrom"]))
					return
				}
			}
			text := flat(v)
			if _, isText := v.(string); called.MatchString(key) && (isText || strings.HasPrefix(text, "${") || strings.Contains(text, "{{resolve")) {
				seen++
				if !reference.MatchString(text) {
					t.Errorf("%s is no reference: %.60s", where, text)
				}
			}
			if looks.MatchString(flat(v)) {
				t.Errorf("%s looks like a secret", where)
			}
			switch v := v.(type) {
			case map[string]any:
				for k, x := range v {
					walk(where+"."+k, x)
				}
			case []any:
				for i, x := range v {
					walk(fmt.Sprintf("%s.%d", where, i), x)
				}
			}
		}
		for _, r := range resources(stacks, "") {
			walk(r.name, r.at("Properties"))
		}
		if seen == 0 && c.Only != "worker" {
			t.Error("nothing that is called a secret was found")
		}
	})
}

// TestDatabaseTakesTLSOnly and from a password that only the task's start sees.
func TestDatabaseTakesTLSOnly(t *testing.T) {
	_, stacks := stacksOf(t, "dev")
	if got := one(t, stacks, "AWS::RDS::DBParameterGroup", "").at("Properties", "Parameters", "rds.force_ssl"); got != "1" {
		t.Errorf("rds.force_ssl is %v, want 1", got)
	}
	cache := one(t, stacks, "AWS::ElastiCache::ReplicationGroup", "")
	if cache.at("Properties", "TransitEncryptionMode") != "required" || cache.at("Properties", "AtRestEncryptionEnabled") != true || cache.at("Properties", "AuthToken") == nil {
		t.Errorf("the cache speaks without TLS or token: %v", flat(cache.at("Properties")))
	}
}

// TestDSNTakesItsPasswordFromTheEnvironment asks pgx itself.
func TestDSNTakesItsPasswordFromTheEnvironment(t *testing.T) {
	t.Setenv("PGPASSWORD", "rotated")
	d := &Data{DatabaseHost: "db.example.org"}
	for ca, verified := range map[string]bool{none: false, writeCA(t): true} {
		dsn := d.dsn(&Config{DatabaseCA: ca})
		c, err := pgx.ParseConfig(dsn)
		if err != nil {
			t.Fatalf("%s: %v", dsn, err)
		}
		if c.Password != "rotated" || c.User != "gmaps" || c.Host != "db.example.org" || c.Database != "gmaps" {
			t.Errorf("%s: user %s, host %s, database %s, password right: %v", dsn, c.User, c.Host, c.Database, c.Password == "rotated")
		}
		if c.TLSConfig == nil || len(c.Fallbacks) > 0 || c.TLSConfig.InsecureSkipVerify == verified {
			t.Errorf("%s: TLS %v, %d fallbacks", dsn, c.TLSConfig, len(c.Fallbacks))
		}
	}
}

func TestManagerRunsWithItsOwnFlags(t *testing.T) {
	source, err := os.ReadFile("../flags.go")
	if err != nil {
		t.Fatal(err)
	}
	eachVariant(t, func(t *testing.T, c *Config, stacks []stack) {
		if c.Only == "worker" {
			return
		}
		flags := managerCommand(t, stacks)
		names := regexp.MustCompile(`(?:^| )-([a-z-]+)`).FindAllStringSubmatch(flags, -1)
		if len(names) < 8 {
			t.Fatalf("only %d flags in %s", len(names), flags)
		}
		for _, n := range names {
			if !strings.Contains(string(source), `, "`+n[1]+`", `) {
				t.Errorf("gmaps-scraper knows no -%s", n[1])
			}
		}
		want := pick(c.public(), "-spawner-manager-url https://maps.example.org ", "-spawner-manager-url http://manager."+privateZone(c)+":8080 ")
		if !strings.Contains(flags, want) {
			t.Errorf("no %q in %s", want, flags)
		}
		if got := strings.Contains(flags, "-spawner-share-services=false"); got != c.public() {
			t.Errorf("cache and broker are withheld: %v with workerNetwork=%s", got, c.WorkerNetwork)
		}
		task := one(t, stacks, "AWS::ECS::TaskDefinition", "")
		for _, container := range task.at("Properties", "ContainerDefinitions").([]any) {
			if got := at(container, "ReadonlyRootFilesystem"); got != true && !c.Execute {
				t.Errorf("%s writes to its root", flat(at(container, "Name")))
			}
		}
		service := one(t, stacks, "AWS::ECS::Service", "").at("Properties").(map[string]any)
		if got, want := flat(at(service, "NetworkConfiguration", "AwsvpcConfiguration", "AssignPublicIp")), pick(c.openManager(), "ENABLED", "DISABLED"); got != want {
			t.Errorf("the Manager's public address: %s, want %s", got, want)
		}
		if at(service, "DeploymentConfiguration", "DeploymentCircuitBreaker", "Rollback") != true || (service["EnableExecuteCommand"] == true) != c.Execute {
			t.Errorf("circuit breaker or ECS Exec: %s", flat(service))
		}
		if got := one(t, stacks, "AWS::ElasticLoadBalancingV2::TargetGroup", "").at("Properties", "HealthCheckPath"); got != "/readyz" {
			t.Errorf("health check at %v", got)
		}
		idle := 0
		for _, a := range one(t, stacks, "AWS::ElasticLoadBalancingV2::LoadBalancer", "").at("Properties", "LoadBalancerAttributes").([]any) {
			if at(a, "Key") == "idle_timeout.timeout_seconds" {
				idle, _ = strconv.Atoi(flat(at(a, "Value")))
			}
		}
		// Who closes first must be the load balancer, or it sends requests into connections that the Manager has just closed: 502.
		if m := serverIdle(t); idle < 45 || idle > m-30 {
			t.Errorf("the load balancer closes idle connections after %d s, the Manager after %d s: want 45 to %d", idle, m, m-30)
		}
		listener := one(t, stacks, "AWS::ElasticLoadBalancingV2::Listener", "")
		if got, want := listener.at("Properties", "Protocol"), pick(c.https(), "HTTPS", "HTTP"); got != want {
			t.Errorf("the load balancer speaks %v, want %s", got, want)
		}
	})
}

// serverIdle is how many seconds the Manager keeps a connection on which nothing is asked.
func serverIdle(t *testing.T) int {
	t.Helper()
	source, err := os.ReadFile("../manager/manager.go")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`IdleTimeout: +(\d+) \* time\.Minute`).FindSubmatch(source)
	if m == nil {
		t.Fatal("manager.Server says no IdleTimeout in minutes")
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n * 60
}

// TestManagerTakesItsCommandLine runs the program itself with the command line, the secrets and the health check of each variant's task. With a
// mistake in them it ends with 2; without, it goes on until it cannot read the DSN, which is spoilt here: for a database it would wait.
func TestManagerTakesItsCommandLine(t *testing.T) {
	program := filepath.Join(t.TempDir(), "gmaps-scraper")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "..").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	unknown, sslmode := regexp.MustCompile(`\$\{[^}]*\}`), regexp.MustCompile(`sslmode=\w[\w-]*`)
	eachVariant(t, func(t *testing.T, c *Config, stacks []stack) {
		if c.Only == "worker" {
			return
		}
		container := one(t, stacks, "AWS::ECS::TaskDefinition", "").at("Properties", "ContainerDefinitions").([]any)[0]
		text := func(s string) string { // as it is after deployment, but on this machine
			s = unknown.ReplaceAllStringFunc(s, func(name string) string {
				switch {
				case strings.Contains(name, "Port"):
					return "1"
				case strings.Contains(name, "Function"):
					return "arn:aws:lambda:us-east-1:123456789012:function:gmaps-test-worker"
				case strings.Contains(name, "BrokerURL"):
					return testSecret
				}
				return "127.0.0.1"
			})
			s = sslmode.ReplaceAllString(s, "sslmode=spoilt")
			return pick(s == ":8080", "127.0.0.1:0", pick(s == "/data", t.TempDir(), s))
		}
		env := []string{"HOME=" + t.TempDir(), "PATH=/nowhere", "GMAPS_ADDR=:8080", "GMAPS_DATA_DIR=/data"} // the image's
		for _, s := range at(container, "Secrets").([]any) {
			name := flat(at(s, "Name"))
			env = append(env, name+"="+pick(name == "GMAPS_RABBITMQ_URL", "amqps://gmaps:word@127.0.0.1:1", "word4567890123456789"))
		}
		start := func(args []string) (int, string) {
			cmd := exec.CommandContext(t.Context(), program, args...)
			cmd.Env = env
			out, _ := cmd.CombinedOutput()
			return cmd.ProcessState.ExitCode(), string(out)
		}
		var args []string
		for _, a := range at(container, "Command").([]any) {
			args = append(args, text(flat(a)))
		}
		if code, out := start(args); code != 1 || !strings.Contains(out, "DSN cannot be read") {
			t.Errorf("%v: exit %d, want 1 for the DSN: %s", args, code, out)
		}
		check := strs(at(container, "HealthCheck", "Command"))
		if len(check) < 3 || check[0] != "CMD" || check[1] != "/gmaps-scraper" {
			t.Fatalf("health check %v: the image holds no shell", check)
		}
		if code, out := start(append(check[2:], "-manager-url", "http://127.0.0.1:1")); code != 1 {
			t.Errorf("health check: exit %d, want 1 for want of a Manager: %s", code, out)
		}
	})
}

// TestAlarmsWatchWhatTheManagerTells looks for every metric and log line of ours in the Manager's source.
func TestAlarmsWatchWhatTheManagerTells(t *testing.T) {
	var source strings.Builder
	files, err := filepath.Glob("../manager/*.go")
	if err != nil || len(files) < 10 {
		t.Fatalf("%d files of the Manager, %v", len(files), err)
	}
	for _, name := range append(files, "../job/spawn.go") {
		if b, err := os.ReadFile(name); err == nil && !strings.HasSuffix(name, "_test.go") {
			source.Write(b)
		}
	}
	_, stacks := stacksOf(t, "prod")
	made := map[string]bool{}
	for _, m := range collected {
		made[m] = true
		// Without labels, or there would be a series for each of their values.
		if !regexp.MustCompile(`(desc\("` + m + `", "[^"]*"\)|Name: "` + m + `", Help: "[^"]*",\n\t+\}, func)`).MatchString(source.String()) {
			t.Errorf("the Manager tells no %s, or tells it with labels", m)
		}
	}
	for _, f := range resources(stacks, "AWS::Logs::MetricFilter") {
		for _, to := range f.at("Properties", "MetricTransformations").([]any) {
			made[flat(at(to, "MetricName"))] = true
		}
		words := regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(flat(f.at("Properties", "FilterPattern")), -1)
		for _, w := range words {
			if !strings.Contains(source.String(), `"`+w[1]+`"`) {
				t.Errorf("%s: the Manager logs no %q", f.name, w[1])
			}
		}
		if len(words) == 0 {
			t.Errorf("%s looks for nothing", f.name)
		}
	}
	n := 0
	for _, a := range resources(stacks, "AWS::CloudWatch::Alarm") {
		if a.at("Properties", "Namespace") != "gmaps/prod" {
			continue
		}
		n++
		if name := flat(a.at("Properties", "MetricName")); !made[name] {
			t.Errorf("%s watches %s, which nothing makes", a.name, name)
		}
	}
	if n != 4 {
		t.Errorf("got %d alarms of our own metrics, want 4", n)
	}
}

func TestPlaceholderCannotBeDeployed(t *testing.T) {
	_, stacks := stacksOf(t, "dev")
	for _, s := range stacks {
		p := at(s.template, "Parameters", "FunctionZipIsMissingRunMakeLambda")
		if got := p != nil; got != (s.name == "gmaps-dev-worker") {
			t.Errorf("%s asks for what nobody has: %v", s.name, got)
		}
		if p != nil && at(p, "Default") != nil {
			t.Errorf("%s: the parameter has a value", s.name)
		}
	}
}

func TestGolden(t *testing.T) {
	hash := regexp.MustCompile(`[0-9a-f]{64}`)
	for _, v := range []string{"dev", "prod"} {
		_, stacks := stacksOf(t, v)
		var b bytes.Buffer
		for _, s := range stacks {
			text, err := os.ReadFile(s.file)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s\n%s\n", s.name, hash.ReplaceAllString(string(text), "HASH"))
		}
		name := filepath.Join("testdata", v+".golden.json")
		if *update {
			if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), b.String()); diff != "" {
			t.Errorf("%s differs; if that is meant: go test ./infra -update (-want +got):\n%s", name, diff)
		}
	}
}

// TestNag runs cdk-nag over every variant, and over one with a mistake.
func TestNag(t *testing.T) {
	modules, err := filepath.Abs("../bin/nag/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(modules); err != nil {
		t.Skip("SKIPPED: cdk-nag is not installed; make test-infra does that")
	}
	nag := func(dirs ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "node", append([]string{"nag/nag.js"}, dirs...)...)
		cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	var dirs []string
	for _, v := range sortedKeys(variants) {
		_, stacks := stacksOf(t, v)
		dirs = append(dirs, filepath.Dir(stacks[0].file))
	}
	if out, err := nag(dirs...); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	_, stacks := stacksOf(t, "worker only")
	seeded := t.TempDir()
	for _, s := range stacks {
		text, err := os.ReadFile(s.file)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.Replace(text, []byte(`"SqsManagedSseEnabled": true`), []byte(`"SqsManagedSseEnabled": false`), 1)
		if err := os.WriteFile(filepath.Join(seeded, filepath.Base(s.file)), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := nag(seeded); err == nil || !strings.Contains(out, "AwsSolutions-SQS2") {
		t.Errorf("a queue without encryption passes (%v):\n%s", err, out)
	}
}

func TestMistakesAreOneLine(t *testing.T) {
	prod := func(without string, args ...string) []string {
		var list []string
		for _, k := range sortedKeys(prodOptions) {
			if k != without {
				list = append(list, fmt.Sprint(k, "=", prodOptions[k]))
			}
		}
		return append(list, args...)
	}
	for _, tt := range []struct {
		options []string
		want    string
	}{
		{[]string{"stage=staging"}, "stage:"},
		{[]string{"natGateway=1"}, "natGateway: there is no such option"},
		{[]string{"natGateways=some"}, "natGateways:"},
		{[]string{"natGateways=3"}, "natGateways: 3 is not in 0 to 2"},
		{[]string{"natGateways=0"}, "natGateways: 0 cuts workers"},
		{[]string{"region=Frankfurt"}, "region:"},
		{[]string{"workerMemory=512"}, "workerMemory:"},
		{[]string{"maxConcurrency=0"}, "maxConcurrency:"},
		{[]string{"logDays=8"}, "logDays:"},
		{[]string{"vpcCidr=10.0.0.1/16"}, "vpcCidr:"},
		{[]string{"allow=0.0.0.0/0"}, "allow: everybody"},
		{[]string{"allow=here"}, "allow:"},
		{[]string{"workerNetwork=public"}, "workerNetwork: public needs certificate"},
		{[]string{"architecture=riscv"}, "architecture:"},
		{[]string{"spawn=browser"}, "spawn:"},
		{[]string{"database=big"}, "database:"},
		{[]string{"certificate=" + testCertificate}, "domain:"},
		{[]string{"functionZip=config.go"}, "functionZip:"},
		{[]string{"managers=3", "managersMax=2"}, "managersMax:"},
		{prod("", "workerNetwork=public", "natGateways=0"), "natGateways: 0 without interfaceEndpoints"},
		{[]string{"workerNetwork=public", "natGateways=0", "interfaceEndpoints=true", "certificate=" + testCertificate}, "metricsImage:"},
		{prod("certificate"), "certificate: is needed in prod"},
		{prod("domain"), "domain: is needed"},
		{prod("image"), "image: is needed in prod"},
		{prod("image", "image=gmaps-scraper:latest"), "image: latest"},
		{prod("alarmEmail"), "alarmEmail: is needed in prod"},
		{prod("", "region=eu-central-1"), "certificate: is not in region eu-central-1"},
		{prod("", "hostedZone=Z0123456789=example.com"), "hostedZone:"},
		{[]string{"nonsense"}, "-c nonsense:"},
	} {
		var args []string
		for _, o := range tt.options {
			args = append(args, "-c", o)
		}
		var stderr bytes.Buffer
		code := run(args, func(string) string { return "" }, io.Discard, &stderr)
		if got := stderr.String(); code != 1 || strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "infra: "+tt.want) {
			t.Errorf("%v: exit %d, %q; want 1 and one line that begins with %q", tt.options, code, got, "infra: "+tt.want)
		}
	}
}
