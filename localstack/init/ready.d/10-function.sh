#!/bin/bash
# LocalStack runs this when it answers. It creates the function as docs/lambda.md does, in the region that the Manager is told.
set -euo pipefail

name=gmaps-worker
aws() { awslocal --region us-east-1 "$@"; }

# The zip is for this machine's processor, and this container too.
architecture=x86_64
[[ $(uname -m) != aarch64 ]] || architecture=arm64

# On AWS these variables are not needed: without GMAPS_MAPS_URL it is Google itself, and the rate is a polite one.
aws lambda create-function --function-name "$name" --runtime provided.al2023 --handler bootstrap --architectures "$architecture" \
	--role arn:aws:iam::000000000000:role/gmaps-worker --memory-size 1024 --timeout 900 --zip-file fileb:///opt/gmaps/function.zip \
	--environment "Variables={GMAPS_MAPS_URL=$FUNCTION_MAPS_URL,GMAPS_RATE=1000}" >/dev/null
# It is Pending until the runtime's image is here.
aws lambda wait function-active-v2 --function-name "$name"
aws lambda put-function-event-invoke-config --function-name "$name" --maximum-retry-attempts 0 --maximum-event-age-in-seconds 60 >/dev/null
echo "function $name is active"
