package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

const (
	testCertificate = "arn:aws:acm:us-east-1:123456789012:certificate/11112222-3333-4444-5555-666677778888"
	testImage       = "123456789012.dkr.ecr.us-east-1.amazonaws.com/gmaps-prod-images@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	testSecret      = "arn:aws:secretsmanager:us-east-1:123456789012:secret:proxies-AbCdEf"
)

// noZip is there nowhere: whether a function is built is not to decide a test.
const noZip = "testdata/nothing.zip"

var prodOptions = map[string]any{
	"stage": "prod", "image": testImage, "certificate": testCertificate, "domain": "maps.example.org", "alarmEmail": "ops@example.org",
}

// variants are the configurations that the tests look at: the two stages as they come, and between them every option in its other position.
var variants = map[string]map[string]any{
	"dev":  {},
	"prod": prodOptions,
	"prod with everything": with(prodOptions, map[string]any{
		"broker": "mq.m7g.medium", "reserveConcurrency": "true", "hostedZone": "Z0123456789=example.org", "proxiesSecret": testSecret,
		"interfaceEndpoints": true, "execute": "true", "mapsUrl": "https://maps.example.org", "rate": 2.5, "maxConcurrency": 37.0, "allow": "203.0.113.0/24",
	}),
	"dev public": {
		"workerNetwork": "public", "certificate": testCertificate, "domain": "maps.example.org", "natGateways": "0",
		"metricsImage": "none", "browserImage": "gmaps-browser:v1", "spawn": "browser", "architecture": "arm64", "cache": "none", "databaseCA": "none", "budget": "0",
	},
	"worker only": {"only": "worker", "managerUrl": "https://maps.example.org", "workerMemory": "1769"},
}

func with(base, more map[string]any) map[string]any {
	m := maps.Clone(base)
	maps.Copy(m, more)
	return m
}

func TestMain(m *testing.M) {
	for _, kv := range os.Environ() { // what synthesis must do without
		if k, _, _ := strings.Cut(kv, "="); strings.HasPrefix(k, "AWS_") || strings.HasPrefix(k, "CDK_") && k != "CDK_OUTDIR" {
			os.Unsetenv(k)
		}
	}
	if args := os.Getenv("INFRA_TEST_RUN"); args != "" { // this binary as the program
		os.Exit(run(strings.Fields(args), os.Getenv, os.Stdout, os.Stderr))
	}
	if _, err := exec.LookPath("node"); err != nil {
		fmt.Println("SKIPPED: all of infra's tests, since the CDK runs on Node.js, which is not in PATH; install version 20 or newer")
		os.Exit(0)
	}
	code, err := inTempDir(m.Run)
	if err != nil {
		fmt.Println(err)
		code = 1
	}
	os.Exit(code)
}

// inTempDir calls f with a temporary folder of its own: the assemblies that tests share outlive each of them. jsii's runtime is not in there, for
// it is unpacked before any code of ours runs, and jsii.Close has a data race: make test-infra names another TMPDIR for all.
func inTempDir(f func() int) (int, error) {
	dir, err := os.MkdirTemp("", "gmaps-infra-")
	if err == nil {
		err = os.Setenv("TMPDIR", dir)
	}
	if err != nil {
		return 1, err
	}
	code := f()
	return code, os.RemoveAll(dir)
}

var synthesized = struct {
	sync.Mutex
	stacks map[string][]stack
}{stacks: map[string][]stack{}}

// stacksOf synthesizes a variant once for all tests.
func stacksOf(t *testing.T, variant string) (*Config, []stack) {
	t.Helper()
	context, err := readContext("../cdk.json", nil, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	context = with(context, variants[variant])
	context["functionZip"] = noZip
	c, err := parseConfig(context)
	if err != nil {
		t.Fatal(err)
	}
	synthesized.Lock()
	defer synthesized.Unlock()
	if s, ok := synthesized.stacks[variant]; ok {
		return c, s
	}
	dir, err := os.MkdirTemp("", "cdk.out-") // it outlives this test
	if err != nil {
		t.Fatal(err)
	}
	s, err := synth(c, context, dir)
	if err != nil {
		t.Fatal(err)
	}
	synthesized.stacks[variant] = s
	return c, s
}

// resource is one of a template. Its name is that of its stack, without the stage, and its logical id.
type resource struct {
	name, kind string
	body       map[string]any
}

// at is the value under a path of keys; nil where there is none.
func (r resource) at(path ...string) any { return at(r.body, path...) }

func at(v any, path ...string) any {
	for _, k := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[k]
	}
	return v
}

// resources are those of a kind, or all, in order.
func resources(stacks []stack, kind string) []resource {
	var list []resource
	for _, s := range stacks {
		of, _ := s.template["Resources"].(map[string]any)
		for _, id := range sortedKeys(of) {
			body := of[id].(map[string]any)
			if kind == "" || body["Type"] == kind {
				_, part, _ := strings.Cut(strings.TrimPrefix(s.name, "gmaps-"), "-")
				list = append(list, resource{part + "/" + id, body["Type"].(string), body})
			}
		}
	}
	return list
}

// one is the only resource of a kind whose name holds part.
func one(t *testing.T, stacks []stack, kind, part string) resource {
	t.Helper()
	found := resources(stacks, kind)
	found = slices.DeleteFunc(found, func(r resource) bool { return !strings.Contains(r.name, part) })
	if len(found) != 1 {
		t.Fatalf("got %d resources %s with %q in their names, want 1", len(found), kind, part)
	}
	return found[0]
}

// flat is a value as text, with what is only known at deployment in ${}.
func flat(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case []any:
		var parts []string
		for _, x := range v {
			parts = append(parts, flat(x))
		}
		return strings.Join(parts, ",")
	case map[string]any:
		if join, ok := v["Fn::Join"].([]any); ok {
			var parts []string
			for _, x := range join[1].([]any) {
				parts = append(parts, flat(x))
			}
			return strings.Join(parts, flat(join[0]))
		}
		if x, ok := v["Ref"].(string); ok {
			return "${" + x + "}"
		}
		if x, ok := v["Fn::GetAtt"].([]any); ok {
			return "${" + flat(x[0]) + "." + flat(x[1]) + "}"
		}
		if x, ok := v["Fn::ImportValue"]; ok {
			return "${" + flat(x) + "}"
		}
	}
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func strs(v any) []string {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		var list []string
		for _, x := range v {
			list = append(list, flat(x))
		}
		return list
	default:
		return []string{flat(v)}
	}
}

// statement is one of an IAM policy.
type statement struct {
	of                 resource
	effect             string
	actions, resources []string
}

// statements are those of all identities, not of resources' own policies.
func statements(stacks []stack) []statement {
	var list []statement
	add := func(r resource, document any) {
		of, _ := at(document, "Statement").([]any)
		for _, s := range of {
			list = append(list, statement{r, flat(at(s, "Effect")), strs(at(s, "Action")), strs(at(s, "Resource"))})
		}
	}
	for _, r := range resources(stacks, "") {
		switch r.kind {
		case "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy":
			add(r, r.at("Properties", "PolicyDocument"))
		case "AWS::IAM::Role":
			inline, _ := r.at("Properties", "Policies").([]any)
			for _, p := range inline {
				add(r, at(p, "PolicyDocument"))
			}
		}
	}
	return list
}
