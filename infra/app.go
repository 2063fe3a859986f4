package main

import (
	"cmp"
	"maps"
	"slices"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// build puts the stacks of c into app. Each takes what it needs as values, so that another app can use it with parts of its own:
// Network ← Data ← Manager → Worker, and Observability looks at all.
func build(app awscdk.App, c *Config, placeholder string) {
	if Part(c.Only) == WorkerOnly {
		outside := *c
		outside.WorkerNetwork = string(Public)
		w := newWorker(app, &outside, WorkerProps{Placeholder: placeholder})
		newObservability(app, &outside, ObservabilityProps{Worker: w})
		return
	}
	registry := newRegistry(app, c)
	network := newNetwork(app, c)
	data := newData(app, c, network)
	worker := newWorker(app, c, WorkerProps{Network: network, Data: data, Placeholder: placeholder})
	manager := newManager(app, c, ManagerProps{Network: network, Data: data, Worker: worker, Registry: registry})
	newObservability(app, c, ObservabilityProps{Data: data, Worker: worker, Manager: manager})
}

// newStack is a stack of the stage, tagged, and in prod not to be destroyed by mistake.
func newStack(scope constructs.Construct, c *Config, part, what string) awscdk.Stack {
	stack := awscdk.NewStack(scope, jsii.String(c.name(part)), &awscdk.StackProps{
		// The account is that of the credentials: templates are the same for everybody.
		Env:                   &awscdk.Environment{Region: jsii.String(c.Region)},
		Description:           jsii.String("gmaps-scraper " + string(c.Stage) + ": " + what),
		TerminationProtection: jsii.Bool(c.prod()),
	})
	awscdk.Tags_Of(stack).Add(jsii.String("project"), jsii.String("gmaps-scraper"), nil)
	awscdk.Tags_Of(stack).Add(jsii.String("stage"), jsii.String(string(c.Stage)), nil)
	return stack
}

// removal is what becomes of a thing that holds data when it leaves its stack. What can be snapshot is told so itself. What a first deployment
// made before it failed is not kept: it holds nothing, and its name would refuse the second.
func (c *Config) removal() awscdk.RemovalPolicy {
	return pick(c.prod(), awscdk.RemovalPolicy_RETAIN_ON_UPDATE_OR_DELETE, awscdk.RemovalPolicy_DESTROY)
}

func (c *Config) snapshot() awscdk.RemovalPolicy {
	return pick(c.prod(), awscdk.RemovalPolicy_SNAPSHOT, awscdk.RemovalPolicy_DESTROY)
}

func output(scope constructs.Construct, id, what, value string) {
	awscdk.NewCfnOutput(scope, jsii.String(id), &awscdk.CfnOutputProps{Description: jsii.String(what), Value: jsii.String(value)})
}

// acknowledge tells cdk-nag that rule does not hold for one resource, and why that is right. child is the path below to the resource
// that the rule looks at: a reason never covers more than one.
func acknowledge(on constructs.IConstruct, rule, reason string) {
	r, ok := on.(awscdk.CfnResource)
	if !ok {
		r = on.Node().DefaultChild().(awscdk.CfnResource)
	}
	var rules []any
	if nag, ok := r.GetMetadata(jsii.String("cdk_nag")).(map[string]any); ok {
		rules, _ = nag["rules_to_suppress"].([]any)
	}
	rules = append(rules, map[string]any{"id": rule, "reason": reason})
	r.AddMetadata(jsii.String("cdk_nag"), map[string]any{"rules_to_suppress": rules})
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

func text(s string) *string { return jsii.String(s) }
