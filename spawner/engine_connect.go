package spawner

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/connhelper"
	clicontext "github.com/docker/cli/cli/context"
	"github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/context/store"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/client"
)

// hubKey is the name under which credentials of docker.io are kept (docker/cli, cli/registry/client, 2025).
const hubKey = "https://index.docker.io/v1/"

// connect returns a client of the engine that the docker command would talk to: DOCKER_HOST, else DOCKER_CONTEXT, else the current
// context of the user's Docker configuration, else the default socket. It sends nothing yet. ssh:// runs the ssh program.
func connect() (cli *client.Client, host string, err error) {
	ep, err := endpoint()
	if err != nil {
		return nil, "", err
	}
	opts, err := ep.ClientOpts()
	if err != nil {
		return nil, "", fmt.Errorf("docker host %s: %w", ep.Host, err)
	}
	if helper, err := connhelper.GetConnectionHelper(ep.Host); err == nil && helper != nil {
		// The ssh program serves many requests: it must not be killed when the first of them ends.
		opts = append(opts, client.WithDialContext(func(ctx context.Context, network, addr string) (net.Conn, error) {
			return helper.Dialer(context.WithoutCancel(ctx), network, addr)
		}))
	}
	cli, err = client.NewClientWithOpts(opts...)
	if err != nil {
		return nil, "", fmt.Errorf("docker host %s: %w", ep.Host, err)
	}
	return cli, ep.Host, nil
}

// endpoint finds the engine in the order of docker/cli (cli/command.resolveContextName, v28.5).
func endpoint() (docker.Endpoint, error) {
	if host := os.Getenv(client.EnvOverrideHost); host != "" {
		return endpointOfEnv(host)
	}
	name := os.Getenv("DOCKER_CONTEXT")
	if name == "" {
		file, err := config.Load(dockerDir())
		if err != nil {
			return docker.Endpoint{}, fmt.Errorf("read Docker configuration: %w", err)
		}
		name = file.CurrentContext
	}
	if name == "" || name == "default" {
		return endpointOfEnv(client.DefaultDockerHost)
	}
	contexts := store.New(filepath.Join(dockerDir(), "contexts"), store.NewConfig(
		func() any { return &map[string]any{} },
		store.EndpointTypeGetter(docker.DockerEndpoint, func() any { return &docker.EndpointMeta{} }),
	))
	about, err := contexts.GetMetadata(name)
	if err != nil {
		return docker.Endpoint{}, fmt.Errorf("docker context %s: %w", name, err)
	}
	meta, err := docker.EndpointFromContext(about)
	if err != nil {
		return docker.Endpoint{}, fmt.Errorf("docker context %s: %w", name, err)
	}
	ep, err := docker.WithTLSData(contexts, name, meta)
	if err != nil {
		return docker.Endpoint{}, fmt.Errorf("docker context %s: %w", name, err)
	}
	if ep.Host == "" {
		ep.Host = client.DefaultDockerHost
	}
	return ep, nil
}

// endpointOfEnv is host with the certificates that DOCKER_TLS_VERIFY and DOCKER_CERT_PATH name.
func endpointOfEnv(host string) (docker.Endpoint, error) {
	ep := docker.Endpoint{EndpointMeta: docker.EndpointMeta{Host: host}}
	verify, dir := os.Getenv(client.EnvTLSVerify) != "", os.Getenv(client.EnvOverrideCertPath)
	if !strings.HasPrefix(host, "tcp://") || !verify && dir == "" {
		return ep, nil
	}
	if dir == "" {
		dir = dockerDir()
	}
	data, err := clicontext.TLSDataFromFiles(filepath.Join(dir, "ca.pem"), filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return docker.Endpoint{}, fmt.Errorf("certificates of docker host %s: %w", host, err)
	}
	ep.TLSData, ep.SkipTLSVerify = data, !verify
	return ep, nil
}

// dockerDir is the folder of the user's Docker configuration.
func dockerDir() string {
	if dir := os.Getenv(config.EnvOverrideConfigDir); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/root" // no HOME: a service
	}
	return filepath.Join(home, ".docker")
}

// registryAuth returns the user's credentials for the registry of an image as the engine takes them; "" if there are none.
// On an error a pull without credentials may still succeed: public images need none.
func registryAuth(ref string) (string, error) {
	named, err := reference.ParseNormalizedNamed(ref)
	if err != nil {
		return "", fmt.Errorf("image %s: %w", ref, err)
	}
	key := reference.Domain(named)
	if key == "docker.io" {
		key = hubKey
	}
	file, err := config.Load(dockerDir())
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read Docker configuration: %w", err)
	}
	found, err := file.GetAuthConfig(key)
	if err != nil {
		return "", fmt.Errorf("credentials for %s: %w", key, err)
	}
	auth := registry.AuthConfig{
		Username: found.Username, Password: found.Password, Auth: found.Auth,
		ServerAddress: found.ServerAddress, IdentityToken: found.IdentityToken, RegistryToken: found.RegistryToken,
	}
	if auth.Username == "" && auth.Auth == "" && auth.IdentityToken == "" && auth.RegistryToken == "" {
		return "", nil
	}
	encoded, err := registry.EncodeAuthConfig(auth)
	if err != nil {
		return "", fmt.Errorf("credentials for %s: %w", key, err)
	}
	return encoded, nil
}
