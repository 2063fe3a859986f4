// Command worker is a worker as an AWS Lambda function: one invocation is one worker. Build it as bootstrap: make lambda.
package main

import (
	"os"

	"github.com/aws/aws-lambda-go/lambda"
)

// version is set by the linker.
var version = "dev"

func main() { lambda.Start(newFunction(os.LookupEnv, os.Stderr)) }
