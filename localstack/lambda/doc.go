// Package lambda is a local Lambda emulator: an http.Handler that speaks the REST API of AWS Lambda, as every AWS SDK calls it, and runs
// the real bootstrap of a function through a real Runtime API. Nothing but AWS_ENDPOINT_URL differs from AWS: the same zip, the same calls.
// It is what localstack/emulator serves, and what tests run in their own process.
//
// # What it answers
//
//	Lambda            CreateFunction, GetFunction, GetFunctionConfiguration, ListFunctions, UpdateFunctionCode, UpdateFunctionConfiguration,
//	                  DeleteFunction, PublishVersion, CreateAlias, GetAlias, Put/Get/DeleteFunctionConcurrency,
//	                  Put/Update/Get/DeleteFunctionEventInvokeConfig, GetAccountSettings, Invoke (RequestResponse, Event, DryRun)
//	Secrets Manager   GetSecretValue of Config.Secrets
//	STS               GetCallerIdentity
//
// Functions belong to the region of the request's signature, as on AWS; requests without a signature are refused, but its value is not checked.
//
// # What it does with a function
//
// Each execution environment is a child process, or a container, with a Runtime API of its own. It handles one invocation at a time, is
// frozen (SIGSTOP, docker pause) between two, reused at will, and killed at its function's timeout. When the emulator dies, even by
// kill -9, everything that it started dies too. Events are queued, retried and discarded by AWS's rules; Config.RetryScale shortens the waits.
//
// # Endpoints of its own
//
// They need no signature:
//
//	GET    /_emulator/health            {"status":"ok"}
//	GET    /_emulator/functions         Stats of all functions
//	GET    /_emulator/functions/{name}  Stats of one: running now and at most, invocations, environments with their pids
//	GET    /_emulator/logs/{name}       its log, the newest 1 MiB
//	GET    /_emulator/discarded         events given up, as AWS's destination records
//	GET    /_emulator/faults            rules that still stand
//	PUT    /_emulator/faults            replaces the rules: a JSON list of Rule
//	DELETE /_emulator/faults            removes all rules
//
// # What is not emulated
//
// IAM policies (Config.Denied and the fault "deny" refuse by hand) and the value of signatures; processors in proportion to memory; the
// growth of 1,000 environments in 10 s; provisioned concurrency, SnapStart, durable functions, extensions, layers, VPCs, EFS, streamed
// responses, function URLs, event sources, container images, runtimes other than provided.*; dead-letter queues and success destinations; CloudWatch.
// State is in memory: a restarted emulator knows no function. As child process a function sees this machine's files, and its
// private /tmp is what TMPDIR names, unbounded; memory is bounded by measuring the bootstrap every 100 ms. A container bounds all three.
package lambda
