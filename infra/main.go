// Command infra synthesizes the stacks that run gmaps-scraper on AWS: for cdk deploy (see cdk.json), or by itself, to look at them.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/jsii-runtime-go"
)

func main() {
	code := run(os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	// jsii waits for its child twice, and tells of it on stderr when the second wait finds nobody.
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		os.Stderr = null
	}
	jsii.Close()
	os.Exit(code)
}

// run synthesizes and returns the exit code. A mistake of the user is one line on stderr.
func run(args []string, getenv func(string) string, stdout, stderr io.Writer) int {
	if len(args) > 0 && strings.TrimLeft(args[0], "-") == "help" {
		help(stdout)
		return 0
	}
	fail := func(err error) int {
		fmt.Fprintf(stderr, "infra: %s\n", strings.Join(strings.Fields(err.Error()), " "))
		return 1
	}
	context, err := readContext("cdk.json", args, getenv)
	if err != nil {
		return fail(err)
	}
	c, err := parseConfig(context)
	if err != nil {
		return fail(err)
	}
	if err := checkZip(c); err != nil {
		return fail(err)
	}
	if _, err := os.Stat(c.FunctionZip); err != nil {
		fmt.Fprintf(stderr, "infra: %s is not there: this is for looking at only, and cdk deploy will refuse it; build it: make lambda\n", c.FunctionZip)
	}
	out := getenv("CDK_OUTDIR") // the command line's
	quiet := out != ""
	if !quiet {
		out = "cdk.out"
	}
	began := time.Now()
	stacks, err := synth(c, context, out)
	if err != nil {
		return fail(err)
	}
	if quiet {
		return 0
	}
	sum := 0
	for _, s := range stacks {
		fmt.Fprintf(stdout, "%-26s %4d resources\n", s.name, s.resources)
		sum += s.resources
	}
	fmt.Fprintf(stdout, "%d stacks, %d resources in %s, synthesized in %.1f s\n", len(stacks), sum, out, time.Since(began).Seconds())
	return 0
}

func help(w io.Writer) {
	for _, s := range []Stage{Dev, Prod} {
		fmt.Fprintf(w, "Options of the CDK's context (-c key=value, or cdk.json), with the defaults of %s:\n", s)
		newOptions(&Config{Stage: s}).VisitAll(func(f *flag.Flag) {
			_, what := flag.UnquoteUsage(f)
			fmt.Fprintf(w, "  %-20s %-24s %s\n", f.Name, f.DefValue, what)
		})
	}
}

// stack is one template that was written.
type stack struct {
	name, file string
	resources  int
	template   map[string]any
}

// synth writes the templates of c into dir. Of the context it takes the CDK's own settings.
func synth(c *Config, context map[string]any, dir string) (stacks []stack, err error) {
	if _, err := exec.LookPath("node"); err != nil {
		return nil, fmt.Errorf("the CDK runs on Node.js, which is not in PATH; install version 20 or newer")
	}
	// The CDK panics where a value does not fit: that is our mistake, and still the user gets a sentence.
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("synthesize: %v", v)
		}
	}()
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	placeholder, err := writePlaceholder()
	if err != nil {
		return nil, err
	}
	defer os.Remove(placeholder) // the CDK has its own copy by then
	settings := map[string]any{}
	for k, v := range context {
		if isOwn(k) {
			settings[k] = v
		}
	}
	app := awscdk.NewApp(&awscdk.AppProps{
		Outdir: jsii.String(dir), Context: &settings, AnalyticsReporting: jsii.Bool(false), TreeMetadata: jsii.Bool(false),
	})
	build(app, c, placeholder)
	assembly := app.Synth(nil)
	for _, a := range *assembly.StacksRecursively() {
		template, _ := a.Template().(map[string]any)
		resources, _ := template["Resources"].(map[string]any)
		stacks = append(stacks, stack{*a.StackName(), filepath.Join(dir, *a.TemplateFile()), len(resources), template})
	}
	return stacks, nil
}
