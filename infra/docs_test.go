package main

import (
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestDeployWorkflowHoldsNoKey(t *testing.T) {
	b, err := os.ReadFile("../.github/workflows/deploy.yml")
	if err != nil {
		t.Fatal(err)
	}
	workflow := string(b)
	for _, want := range []string{"id-token: write", "role-to-assume:", "infra/diff.sh", "make test-infra", "environment: prod"} {
		if !strings.Contains(workflow, want) {
			t.Errorf("no %q in it", want)
		}
	}
	// An option that a deployment by hand gave and the workflow does not is taken back by the workflow: a domain's record, who may come in.
	for _, stage := range []string{"dev", "prod"} {
		_, job, _ := strings.Cut(workflow, "\n  "+stage+":\n")
		job = regexp.MustCompile(`(?m)^  \w+:$`).Split(job, 2)[0]
		want := []string{"-c stage=" + stage, `-c image="$IMAGE"`, `-c allow="$ALLOW"`}
		if stage == "prod" {
			want = append(want, "-c hostedZone=")
		} else {
			want = append(want, `docker push "$image"`, "$GITHUB_SHA")
		}
		for _, w := range want {
			if !strings.Contains(job, w) {
				t.Errorf("%s: no %s", stage, w)
			}
		}
	}
	if key := regexp.MustCompile(`(?i)secret[_-]?access[_-]?key|\bAKIA|secrets\.`).FindString(workflow); key != "" {
		t.Errorf("it uses %s: the role is proved by OIDC", key)
	}
	// Rights beyond reading belong to single jobs.
	if head, _, _ := strings.Cut(workflow, "\njobs:"); strings.Contains(head, "id-token") {
		t.Error("every job may ask for a role")
	}
	if b, err = os.ReadFile("diff.sh"); err != nil || !strings.Contains(string(b), "--template") {
		t.Errorf("diff.sh needs an account: %v", err)
	}
}

// TestIdleCostsAddUp reads the table of docs/costs.md.
func TestIdleCostsAddUp(t *testing.T) {
	b, err := os.ReadFile("../docs/costs.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(b), "| a month | dev | prod |")
	table, _, _ = strings.Cut(table, "\n\n")
	rows := regexp.MustCompile(`(?m)^\| ([^|]+) \| \**([\d.]+)\** \| \**([\d.]+)\** \|`).FindAllStringSubmatch(table, -1)
	if len(rows) < 8 {
		t.Fatalf("only %d rows were found", len(rows))
	}
	var dev, prod float64
	for i, r := range rows {
		d, err1 := strconv.ParseFloat(r[2], 64)
		p, err2 := strconv.ParseFloat(r[3], 64)
		if err1 != nil || err2 != nil {
			t.Fatalf("%s: %v %v", r[1], err1, err2)
		}
		if i < len(rows)-1 {
			dev, prod = dev+d, prod+p
			continue
		}
		if math.Abs(dev-d) > .005 || math.Abs(prod-p) > .005 {
			t.Errorf("the rows make %.2f and %.2f, the sum says %.2f and %.2f", dev, prod, d, p)
		}
	}
}
