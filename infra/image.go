package main

import (
	"regexp"
	"strings"

	"github.com/aws/aws-cdk-go/awscdk/v2/awsecr"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecs"
	"github.com/aws/constructs-go/constructs/v10"
)

// ecrForm matches an image in a private repository: account, region, name.
var ecrForm = regexp.MustCompile(`^(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/(.+)$`)

// splitImage returns a repository's name, and its tag or digest.
func splitImage(image string) (name, version string) {
	if name, digest, ok := strings.Cut(image, "@"); ok {
		return name, digest
	}
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[:i], image[i+1:]
	}
	return image, "latest"
}

// containerImage lets a task pull an image, with the rights it takes if it is in ECR. Empty: the newest in repository.
func containerImage(scope constructs.Construct, id, image string, repository awsecr.IRepository) awsecs.ContainerImage {
	if image == "" {
		return awsecs.ContainerImage_FromEcrRepository(repository, text("latest"))
	}
	name, version := splitImage(image)
	m := ecrForm.FindStringSubmatch(name)
	if m == nil {
		return awsecs.ContainerImage_FromRegistry(text(image), nil)
	}
	return awsecs.ContainerImage_FromEcrRepository(awsecr.Repository_FromRepositoryAttributes(scope, text(id), &awsecr.RepositoryAttributes{
		RepositoryArn: text("arn:aws:ecr:" + m[2] + ":" + m[1] + ":repository/" + m[3]), RepositoryName: text(m[3]),
	}), text(version))
}

// joinFlags is a command line, for people to copy.
func joinFlags(flags []string) string {
	quoted := make([]string, len(flags))
	for i, f := range flags {
		quoted[i] = f
		if strings.ContainsAny(f, "&? ") {
			quoted[i] = "'" + f + "'"
		}
	}
	return strings.Join(quoted, " ")
}
