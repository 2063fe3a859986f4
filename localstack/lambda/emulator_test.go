package lambda_test

import (
	"gmaps-scraper/localstack/lambda"
)

var lambdaDefaults lambda.Config
