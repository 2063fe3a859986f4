package main

import (
	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecs"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsevents"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsiam"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsstepfunctions"
	"github.com/aws/constructs-go/constructs/v10"
)

// restartOnRotation deploys the service anew when RDS has changed the database's password: ECS hands secrets to a task when it starts. Until
// then the old task lives on its open connections. The event comes by CloudTrail: it takes a trail in the account.
// A state machine of one call, since EventBridge cannot call ECS by itself; L1 resources, since their L2 ones take minutes to compile.
func (m *Manager) restartOnRotation(stack awscdk.Stack, p ManagerProps, cluster awsecs.ICluster) {
	machine := awsstepfunctions.NewCfnStateMachine(stack, text("OnRotation"), &awsstepfunctions.CfnStateMachineProps{
		RoleArn: roleFor(stack, "OnRotationRole", "states.amazonaws.com", "ecs:UpdateService", *m.Service.ServiceArn()).RoleArn(),
		Definition: map[string]any{"StartAt": "Redeploy", "TimeoutSeconds": 300, "States": map[string]any{"Redeploy": map[string]any{
			"Type": "Task", "Resource": "arn:aws:states:::aws-sdk:ecs:updateService", "End": true,
			"Parameters": map[string]any{"Cluster": cluster.ClusterName(), "Service": m.Service.ServiceName(), "ForceNewDeployment": true},
		}}},
	})
	acknowledge(machine, "AwsSolutions-SF1", "one call a week, whose outcome is the deployment that follows")
	acknowledge(machine, "AwsSolutions-SF2", "one call a week: nothing to trace")
	awsevents.NewCfnRule(stack, text("Rotated"), &awsevents.CfnRuleProps{
		Description: text("gmaps: the database has a new password"),
		EventPattern: map[string]any{
			"source": []string{"aws.secretsmanager"}, "detail-type": []string{"AWS Service Event via CloudTrail"},
			"detail": map[string]any{
				"eventSource": []string{"secretsmanager.amazonaws.com"}, "eventName": []string{"RotationSucceeded"},
				"additionalEventData": map[string]any{"SecretId": []*string{p.Data.DatabaseSecret.SecretArn()}},
			},
		},
		Targets: []*awsevents.CfnRule_TargetProperty{{
			Id: text("redeploy"), Arn: machine.AttrArn(),
			RoleArn: roleFor(stack, "RotatedRole", "events.amazonaws.com", "states:StartExecution", *machine.AttrArn()).RoleArn(),
		}},
	})
}

// roleFor lets a service of AWS do one thing to one resource.
func roleFor(scope constructs.Construct, id, service, action, resource string) awsiam.Role {
	role := awsiam.NewRole(scope, text(id), &awsiam.RoleProps{AssumedBy: awsiam.NewServicePrincipal(text(service), nil)})
	role.AddToPolicy(awsiam.NewPolicyStatement(&awsiam.PolicyStatementProps{Actions: &[]*string{text(action)}, Resources: &[]*string{text(resource)}}))
	return role
}
