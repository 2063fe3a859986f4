package spawner

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
)

// Route is the way from a worker's container to the Manager.
type Route struct {
	// URL of the Manager as a worker must call it.
	URL string
	// Listen is an address of this host on which the Manager must listen besides its own, since the way leads there: 172.18.0.1.
	// Empty: none.
	Listen string

	host string // by which a worker reaches what the Manager calls localhost
}

// Rewrite returns an address of the Manager's, host:port or a URL, as a worker must call it: localhost is another place in a container.
// Any other address, and none, stays as it is.
func (r Route) Rewrite(address string) string {
	if address == "" || r.host == "" {
		return address
	}
	if strings.Contains(address, "://") {
		u, err := url.Parse(address)
		if err != nil || !loopback(u.Hostname()) {
			return address
		}
		u.Host = joinHostPort(r.host, u.Port())
		return u.String()
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		host, port = address, ""
	}
	if !loopback(host) {
		return address
	}
	return joinHostPort(r.host, port)
}

func loopback(host string) bool {
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && (ip.IsLoopback() || ip.IsUnspecified())
}

func joinHostPort(host, port string) string {
	switch {
	case port != "":
		return net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		return "[" + host + "]"
	}
	return host
}

func routeTo(host string, port int) Route {
	return Route{URL: "http://" + net.JoinHostPort(host, strconv.Itoa(port)), host: host}
}

const (
	desktopHost = "host.docker.internal" // Docker Desktop, OrbStack, Rancher Desktop, Colima: the machine outside of their VM
	gwbridge    = "docker_gwbridge"      // the bridge by which containers of an overlay network leave it (dockerd, Swarm)
)

// route finds the way to this process, which listens on port, from a container on the network. Its error is an *Error of op "route".
func (e *engine) route(ctx context.Context, networkName string, port int) (Route, error) {
	cli, err := e.client(ctx, "route")
	if err != nil {
		return Route{}, err
	}
	n, err := e.network(ctx, "route", networkName)
	if err != nil {
		return Route{}, err
	}
	own, err := e.ownContainer(ctx, cli)
	if err != nil {
		return Route{}, err
	}
	if own != nil && !own.HostConfig.NetworkMode.IsHost() {
		return routeToContainer(own, n, port)
	}
	info := e.known()
	switch {
	case !e.local():
		return Route{}, noRoute("the Docker engine at %s runs on another machine", e.address())
	case strings.Contains(info.OperatingSystem, "Docker Desktop"), runtime.GOOS != "linux": // the engine runs in a VM
		return routeTo(desktopHost, port), nil
	case n.Driver == "host":
		return routeTo("127.0.0.1", port), nil
	case n.Driver == "bridge":
	case n.Driver == "overlay" && !n.Internal:
		if n, err = e.network(ctx, "route", gwbridge); err != nil {
			return Route{}, noRoute("network %s has no way out to this host: %v", networkName, err)
		}
	default:
		return Route{}, noRoute("no way leads from network %s (driver %s) to this host", networkName, n.Driver)
	}
	ip, err := hostAddressOn(n)
	if err != nil {
		return Route{}, err
	}
	r := routeTo(ip.String(), port)
	r.Listen = ip.String()
	return r, nil
}

func noRoute(format string, args ...any) *Error {
	return &Error{
		Op: "route", Reason: "the URL of this Manager for workers cannot be found: " + fmt.Sprintf(format, args...),
		Mend: "set -spawner-manager-url to a URL that containers reach it under", Cause: "network",
	}
}

// local reports whether the engine seems to run on this machine.
func (e *engine) local() bool {
	e.mu.Lock()
	host := e.host
	e.mu.Unlock()
	u, err := client.ParseHostURL(host)
	if err != nil {
		return false
	}
	return u.Scheme == "unix" || u.Scheme == "npipe" || u.Scheme == "tcp" && loopback(u.Hostname())
}

// routeToContainer is the way to the container that this process runs in.
func routeToContainer(own *container.InspectResponse, n network.Inspect, port int) (Route, error) {
	name := strings.TrimPrefix(own.Name, "/")
	for _, end := range own.NetworkSettings.Networks {
		if end.NetworkID != n.ID {
			continue
		}
		if service := own.Config.Labels["com.docker.swarm.service.name"]; service != "" {
			return routeTo(service, port), nil // a task's own name changes with each restart
		}
		if n.Name == network.NetworkBridge { // knows no names
			return routeTo(end.IPAddress, port), nil
		}
		return routeTo(name, port), nil
	}
	refused := noRoute("it runs in container %s, which is not on network %s", name, n.Name)
	refused.Mend = fmt.Sprintf("attach it: docker network connect %s %s, or set -spawner-manager-url", n.Name, name)
	return Route{}, refused
}

// hostAddressOn returns this machine's own address on a bridge. The engine's word alone does not do: a rootless engine, or one in a VM,
// has its bridges in a place of their own.
func hostAddressOn(n network.Inspect) (netip.Addr, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return netip.Addr{}, &Error{Op: "route", Reason: "read this host's addresses: " + err.Error(), Cause: "other", Err: err}
	}
	var on []netip.Addr
	for _, cfg := range n.IPAM.Config {
		subnet, err := netip.ParsePrefix(cfg.Subnet)
		if err != nil {
			continue
		}
		for _, a := range addrs {
			own, err := netip.ParsePrefix(a.String())
			if err == nil && subnet.Contains(own.Addr()) {
				on = append(on, own.Addr())
			}
		}
	}
	if len(on) == 0 {
		return netip.Addr{}, noRoute("the engine's network %s has no address on this host: it is rootless, in a VM or isolated", n.Name)
	}
	slices.SortFunc(on, func(a, b netip.Addr) int { return a.Compare(b) }) // IPv4 first
	return on[0], nil
}

// ownContainer returns the container of this engine that this process runs in, nil if it runs in none.
func (e *engine) ownContainer(ctx context.Context, cli *client.Client) (*container.InspectResponse, error) {
	ids, err := ownIDs("/proc/self")
	if err != nil {
		return nil, &Error{Op: "route", Reason: "find out whether this is a container: " + err.Error(), Cause: "other", Err: err}
	}
	for _, id := range ids {
		c, err := cli.ContainerInspect(ctx, id)
		if cerrdefs.IsNotFound(err) {
			continue // of another engine: a Manager inside a container that has an engine of its own
		}
		if err != nil {
			return nil, e.refused("route", "inspect own container", err)
		}
		if strings.HasPrefix(c.ID, id) { // and no container that is merely called so
			return &c, nil
		}
	}
	return nil, nil
}

var (
	containerID = regexp.MustCompile(`[0-9a-f]{64}`)
	shortID     = regexp.MustCompile(`^[0-9a-f]{12}$`)
)

// ownIDs returns what may be the id of the container that a process runs in, by its folder in /proc: the engine mounts the files
// hosts, hostname and resolv.conf from the container's folder; older cgroups are named after it; so is the host by default.
func ownIDs(proc string) ([]string, error) {
	var ids []string
	mounts, err := os.ReadFile(proc + "/mountinfo")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for line := range bytes.Lines(mounts) {
		f := strings.Fields(string(line)) // 3: root within the file system, 4: mount point (proc_pid_mountinfo(5))
		if len(f) > 4 && slices.Contains([]string{"/etc/hosts", "/etc/hostname", "/etc/resolv.conf"}, f[4]) {
			ids = append(ids, containerID.FindString(f[3]))
		}
	}
	cgroup, err := os.ReadFile(proc + "/cgroup")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ids = append(ids, containerID.FindString(string(cgroup)))
	if host, err := os.Hostname(); err == nil && shortID.MatchString(host) {
		ids = append(ids, host)
	}
	ids = slices.DeleteFunc(ids, func(id string) bool { return id == "" })
	slices.Sort(ids)
	return slices.Compact(ids), nil
}
