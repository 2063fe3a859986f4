package main

import (
	"fmt"

	"github.com/aws/aws-cdk-go/awscdk/v2"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsamazonmq"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsecr"
	"github.com/aws/aws-cdk-go/awscdk/v2/awselasticache"
	"github.com/aws/aws-cdk-go/awscdk/v2/awsrds"
	"github.com/aws/aws-cdk-go/awscdk/v2/awssecretsmanager"
	"github.com/aws/constructs-go/constructs/v10"
	"github.com/aws/jsii-runtime-go"
)

// databaseName names the database and its first user.
const databaseName = "gmaps"

// Data is what outlives a task: the database, and two things that the system can do without.
type Data struct {
	DatabaseID, DatabaseHost string
	// DatabaseSecret holds username and password as JSON. RDS makes and rotates it.
	DatabaseSecret awssecretsmanager.ISecret

	RedisAddr     string                    // empty: no cache
	RedisPassword awssecretsmanager.ISecret // text; nil: no cache
	RabbitMQ      awssecretsmanager.ISecret // JSON with url; nil: no broker
}

// newRegistry makes the repository of the stage's images. It is a stack of its own since an image must be there before the Manager is.
func newRegistry(scope constructs.Construct, c *Config) awsecr.Repository {
	stack := newStack(scope, c, "registry", "container images")
	repository := awsecr.NewRepository(stack, text("Images"), &awsecr.RepositoryProps{
		RepositoryName: text(c.name("images")), ImageScanOnPush: jsii.Bool(true), RemovalPolicy: c.removal(), EmptyOnDelete: jsii.Bool(!c.prod()),
		ImageTagMutability: pick(c.prod(), awsecr.TagMutability_IMMUTABLE, awsecr.TagMutability_MUTABLE),
		LifecycleRules:     &[]*awsecr.LifecycleRule{{MaxImageCount: jsii.Number(30), Description: text("the newest 30")}},
	})
	output(stack, "Repository", "push the Manager's image here", *repository.RepositoryUri())
	return repository
}

func newData(scope constructs.Construct, c *Config, n *Network) *Data {
	stack := newStack(scope, c, "data", "PostgreSQL, Valkey and RabbitMQ")
	d := &Data{}
	d.addDatabase(stack, c, n)
	if c.Cache != none {
		d.addCache(stack, c, n)
	}
	if c.Broker != none {
		d.addBroker(stack, c, n)
	}
	return d
}

func (d *Data) addDatabase(scope constructs.Construct, c *Config, n *Network) {
	subnets := awsrds.NewSubnetGroup(scope, text("DatabaseSubnets"), &awsrds.SubnetGroupProps{
		Description: text("gmaps database"), Vpc: n.VPC, VpcSubnets: n.data(), RemovalPolicy: awscdk.RemovalPolicy_DESTROY,
	})
	parameters := awsrds.NewCfnDBParameterGroup(scope, text("DatabaseParameters"), &awsrds.CfnDBParameterGroupProps{
		Description: text("gmaps database: TLS only"), Family: text("postgres" + majorOf(c.DatabaseVersion)),
		Parameters: &map[string]*string{
			"rds.force_ssl":              text("1"),
			"log_min_duration_statement": text("1000"), // ms
		},
	})
	// The L1 resource, since the L2 one cannot leave the password to RDS: RDS then rotates it every 7 days by itself, with no function of
	// ours in the VPC and no rule that lets one reach 5432.
	db := awsrds.NewCfnDBInstance(scope, text("Database"), &awsrds.CfnDBInstanceProps{
		Engine: text("postgres"), EngineVersion: text(c.DatabaseVersion), DbInstanceClass: text(c.Database), DbName: text(databaseName),
		MasterUsername: text(databaseName), ManageMasterUserPassword: true,
		AllocatedStorage: text(fmt.Sprint(c.DatabaseStorageGiB)), MaxAllocatedStorage: jsii.Number(float64(10 * c.DatabaseStorageGiB)),
		StorageType: text("gp3"), StorageEncrypted: true, CopyTagsToSnapshot: true,
		BackupRetentionPeriod: jsii.Number(float64(c.BackupDays)), DeleteAutomatedBackups: !c.prod(), DeletionProtection: c.prod(), MultiAz: c.MultiAZ,
		AutoMinorVersionUpgrade: true, PreferredBackupWindow: text("03:00-04:00"), PreferredMaintenanceWindow: text("sun:04:30-sun:05:30"),
		DbSubnetGroupName: subnets.SubnetGroupName(), VpcSecurityGroups: &[]*string{n.Database.SecurityGroupId()}, PubliclyAccessible: false,
		DbParameterGroupName: parameters.Ref(), CaCertificateIdentifier: text("rds-ca-rsa2048-g1"),
		EnablePerformanceInsights: c.prod(),
	})
	if c.prod() { // RDS makes the log group, and no stack would remove it
		db.SetEnableCloudwatchLogsExports(&[]*string{text("postgresql")})
	}
	db.ApplyRemovalPolicy(c.snapshot(), nil)
	d.DatabaseID, d.DatabaseHost = *db.Ref(), *db.AttrEndpointAddress()
	d.DatabaseSecret = awssecretsmanager.Secret_FromSecretCompleteArn(scope, text("DatabaseSecret"), db.AttrMasterUserSecretSecretArn())

	acknowledge(db, "AwsSolutions-RDS11", "the default port is no secret; only the Manager's security group reaches it")
	if !c.MultiAZ {
		acknowledge(db, "AwsSolutions-RDS3", "one zone, as multiAz says: a stage that may stand still for the minutes of a restore")
	}
	if !c.prod() {
		acknowledge(db, "AwsSolutions-RDS10", "dev must be destroyed without leaving anything")
	}
	output(scope, "DSN", "-dsn; the password comes as PGPASSWORD", d.dsn(c))
	output(scope, "DatabaseSecretArn", "JSON with username and password, rotated by RDS", *db.AttrMasterUserSecretSecretArn())
}

func majorOf(version string) string {
	major := version
	for i, r := range version {
		if r == '.' {
			major = version[:i]
			break
		}
	}
	return major
}

// dsn says everything but the password, which pgx takes from PGPASSWORD.
func (d *Data) dsn(c *Config) string {
	tls := "sslmode=require"
	if c.DatabaseCA != none {
		tls = "sslmode=verify-full&sslrootcert=" + c.DatabaseCA
	}
	return fmt.Sprintf("postgres://%s@%s:%d/%s?%s", databaseName, d.DatabaseHost, postgresPort, databaseName, tls)
}

func (d *Data) addCache(scope constructs.Construct, c *Config, n *Network) {
	subnets := awselasticache.NewCfnSubnetGroup(scope, text("CacheSubnets"), &awselasticache.CfnSubnetGroupProps{
		Description: text("gmaps cache"), SubnetIds: n.VPC.SelectSubnets(n.data()).SubnetIds,
	})
	parameters := awselasticache.NewCfnParameterGroup(scope, text("CacheParameters"), &awselasticache.CfnParameterGroupProps{
		CacheParameterGroupFamily: text("valkey8"), Description: text("gmaps cache: what is old makes room"),
		Properties: map[string]string{"maxmemory-policy": "allkeys-lru"},
	})
	password := awssecretsmanager.NewSecret(scope, text("CachePassword"), &awssecretsmanager.SecretProps{
		Description: text("gmaps cache: AUTH token"), RemovalPolicy: c.removal(),
		GenerateSecretString: &awssecretsmanager.SecretStringGenerator{PasswordLength: jsii.Number(64), ExcludePunctuation: jsii.Bool(true)},
	})
	acknowledge(password, "AwsSolutions-SMG4", "a new AUTH token needs two changes of the cache with the old one still good between; by hand, see infra/README.md")
	nodes := pick(c.MultiAZ, 2, 1)
	cache := awselasticache.NewCfnReplicationGroup(scope, text("Cache"), &awselasticache.CfnReplicationGroupProps{
		ReplicationGroupDescription: text("gmaps cache"), Engine: text("valkey"), EngineVersion: text("8.0"), CacheNodeType: text(c.Cache),
		NumCacheClusters: jsii.Number(float64(nodes)), AutomaticFailoverEnabled: c.MultiAZ, MultiAzEnabled: c.MultiAZ,
		TransitEncryptionEnabled: true, TransitEncryptionMode: text("required"), AtRestEncryptionEnabled: true,
		AuthToken:            password.SecretValue().UnsafeUnwrap(), // a dynamic reference: the template does not hold it
		CacheSubnetGroupName: subnets.Ref(), CacheParameterGroupName: parameters.Ref(), SecurityGroupIds: &[]*string{n.Cache.SecurityGroupId()},
		AutoMinorVersionUpgrade: true, SnapshotRetentionLimit: jsii.Number(0), Port: jsii.Number(redisPort),
	})
	cache.ApplyRemovalPolicy(c.snapshot(), nil)
	if !c.MultiAZ {
		acknowledge(cache, "AwsSolutions-AEC4", "what is in it may be forgotten: without it the system is slower, never wrong")
	}
	d.RedisAddr = *cache.AttrPrimaryEndPointAddress() + ":" + *cache.AttrPrimaryEndPointPort()
	d.RedisPassword = password
	output(scope, "RedisFlags", "the password comes as GMAPS_REDIS_PASSWORD", "-redis-addr "+d.RedisAddr+" -redis-tls")
	output(scope, "RedisSecretArn", "the text of GMAPS_REDIS_PASSWORD", *password.SecretArn())
}

func (d *Data) addBroker(scope constructs.Construct, c *Config, n *Network) {
	login := awssecretsmanager.NewSecret(scope, text("BrokerLogin"), &awssecretsmanager.SecretProps{
		Description: text("gmaps broker: username and password"), RemovalPolicy: c.removal(),
		GenerateSecretString: &awssecretsmanager.SecretStringGenerator{
			SecretStringTemplate: text(`{"username":"gmaps"}`), GenerateStringKey: text("password"), PasswordLength: jsii.Number(40), ExcludePunctuation: jsii.Bool(true),
		},
	})
	subnets := *n.VPC.SelectSubnets(n.data()).SubnetIds
	if !c.MultiAZ {
		subnets = subnets[:1]
	}
	broker := awsamazonmq.NewCfnBroker(scope, text("Broker"), &awsamazonmq.CfnBrokerProps{
		BrokerName: text(c.name("broker")), EngineType: text("RABBITMQ"), EngineVersion: text("3.13"), HostInstanceType: text(c.Broker),
		DeploymentMode: text(pick(c.MultiAZ, "CLUSTER_MULTI_AZ", "SINGLE_INSTANCE")), PubliclyAccessible: false, AutoMinorVersionUpgrade: true,
		Users: &[]*awsamazonmq.CfnBroker_UserProperty{{
			Username: text("gmaps"), Password: login.SecretValueFromJson(text("password")).UnsafeUnwrap(),
		}},
		SubnetIds: &subnets, SecurityGroups: &[]*string{n.Broker.SecurityGroupId()}, Logs: &awsamazonmq.CfnBroker_LogListProperty{General: c.prod()},
		EncryptionOptions: &awsamazonmq.CfnBroker_EncryptionOptionsProperty{UseAwsOwnedKey: true},
	})
	broker.ApplyRemovalPolicy(c.removal(), nil) // Amazon MQ takes no snapshot; the bell carries no work, but its users may have queues of their own
	host := awscdk.Fn_Select(jsii.Number(1), awscdk.Fn_Split(text("://"), awscdk.Fn_Select(jsii.Number(0), broker.AttrAmqpEndpoints()), nil))
	url := awssecretsmanager.NewSecret(scope, text("BrokerURL"), &awssecretsmanager.SecretProps{
		Description: text("gmaps broker: -rabbitmq-url"), RemovalPolicy: c.removal(),
		SecretObjectValue: &map[string]awscdk.SecretValue{
			"url": awscdk.SecretValue_UnsafePlainText(text("amqps://gmaps:" + *login.SecretValueFromJson(text("password")).UnsafeUnwrap() + "@" + *host)),
		},
	})
	for _, s := range []awssecretsmanager.Secret{login, url} {
		acknowledge(s, "AwsSolutions-SMG4", "Amazon MQ rotates no user of RabbitMQ; by hand, see infra/README.md")
	}
	d.RabbitMQ = url
	output(scope, "RabbitMQSecretArn", "JSON with url, the text of GMAPS_RABBITMQ_URL", *url.SecretArn())
}
