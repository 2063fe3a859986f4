package lambda_test

import (
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/lambda"

	"gmaps-scraper/localstack/lambda"
)

// TestContainersBoundAFunction needs a Docker engine that has the image GMAPS_TEST_LAMBDA_IMAGE, any image at all.
func TestContainersBoundAFunction(t *testing.T) {
	image := os.Getenv("GMAPS_TEST_LAMBDA_IMAGE")
	if image == "" {
		t.Skip("GMAPS_TEST_LAMBDA_IMAGE is not set: container sandboxes are NOT tested")
	}
	e, client := open(t, lambda.Config{Sandbox: lambda.SandboxContainer, Image: image})
	name := create(t, client, func(in *sdk.CreateFunctionInput) { in.Timeout = aws.Int32(3) })
	first, second := ask(t, client, name, order{}), ask(t, client, name, order{})
	if first.UID == 0 || first.Written != "yes" || first.Environment["LAMBDA_TASK_ROOT"] != "/var/task" || second.Count != 2 {
		t.Errorf("facts: %+v, then count %d, want no root, a writable /tmp, /var/task, a reused container", first, second.Count)
	}
	waitFor(t, "the container to be frozen", func() bool { return stats(t, e, name).Environments[0].Frozen })
	if out := invoke(t, client, name, order{Do: "sleep", Millis: 60_000}); aws.ToString(out.FunctionError) != "Unhandled" {
		t.Errorf("timeout: %s", out.Payload)
	}
	if list := stats(t, e, name).Environments; len(list) != 0 {
		t.Errorf("environments after a timeout: %+v", list)
	}
}
