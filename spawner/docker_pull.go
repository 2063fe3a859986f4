package spawner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/image"
)

const (
	pullTimeout  = 30 * time.Minute
	pullPatience = 30 * time.Second
)

// pulls are those under way, one an image. A pull outlives the Create that began it: an engine drops what it has of an image when
// the call ends, so a large image on a slow line would never arrive within a Create's deadline.
type pulls struct {
	// patience is how long a Create waits; it then says how far the pull is, which goes on.
	patience time.Duration

	mu     sync.Mutex
	active map[string]*pull
	wg     sync.WaitGroup
}

type pull struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error // once done

	mu     sync.Mutex
	layers map[string]progress
}

type progress struct{ current, total int64 }

// provide sees to it that the engine has the image, and returns the user and the volumes for a container of it.
func (d *Docker) provide(ctx context.Context) (user string, volumes map[string]struct{}, err error) {
	if d.cfg.PullPolicy == PullAlways {
		if err := d.pull(ctx); err != nil {
			return "", nil, err
		}
	}
	img, err := d.engine.image(ctx, "create", d.cfg.Image)
	if cerrdefs.IsNotFound(err) && d.cfg.PullPolicy == PullMissing {
		if err := d.pull(ctx); err != nil {
			return "", nil, err
		}
		img, err = d.engine.image(ctx, "create", d.cfg.Image)
	}
	if err != nil {
		return "", nil, err
	}
	if img.Config == nil {
		return workerUser, nil, nil
	}
	if name, _, _ := strings.Cut(img.Config.User, ":"); name == "" || name == "root" || name == "0" {
		return workerUser, img.Config.Volumes, nil
	}
	return img.Config.User, img.Config.Volumes, nil
}

// pull waits for the pull of the image, which it begins if there is none.
func (d *Docker) pull(ctx context.Context) error {
	ref := d.cfg.Image
	d.pulls.mu.Lock()
	p := d.pulls.active[ref]
	if p == nil {
		pulling, cancel := context.WithTimeout(context.WithoutCancel(ctx), pullTimeout)
		p = &pull{cancel: cancel, done: make(chan struct{}), layers: make(map[string]progress)}
		if d.pulls.active == nil {
			d.pulls.active = make(map[string]*pull)
		}
		d.pulls.active[ref] = p
		d.pulls.wg.Go(func() {
			defer cancel()
			p.err = d.fetch(pulling, ref, p)
			close(p.done)
			if p.err == nil {
				d.engine.log.InfoContext(pulling, "image pulled", "image", ref)
				d.pulls.forget(ref, p)
			}
		})
	}
	d.pulls.mu.Unlock()

	patience := time.NewTimer(d.pulls.patience)
	defer patience.Stop()
	select {
	case <-p.done:
		d.pulls.forget(ref, p) // a failure is told once; the next Create tries again
		return p.err
	case <-ctx.Done():
		return fmt.Errorf("pull image %s: %w", ref, context.Cause(ctx))
	case <-patience.C:
		return &Error{Op: "create", Reason: fmt.Sprintf("image %s is being pulled: %s", ref, p.said()), Retry: true, Cause: "image"}
	}
}

// fetch pulls an image to its end.
func (d *Docker) fetch(ctx context.Context, ref string, p *pull) error {
	cli, err := d.engine.client(ctx, "create")
	if err != nil {
		return err
	}
	auth, unread := registryAuth(ref)
	stream, err := cli.ImagePull(ctx, ref, image.PullOptions{RegistryAuth: auth})
	if err != nil {
		return d.engine.pullRefused("create", ref, errors.Join(err, unread))
	}
	defer stream.Close()
	for messages := json.NewDecoder(stream); ; {
		var m struct {
			ID             string `json:"id"`
			Error          string `json:"error"`
			ProgressDetail struct{ Current, Total int64 }
		}
		switch err := messages.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return d.engine.pullRefused("create", ref, err)
		case m.Error != "":
			return d.engine.pullRefused("create", ref, errors.Join(errors.New(m.Error), unread))
		case m.ProgressDetail.Total > 0:
			p.mu.Lock()
			p.layers[m.ID] = progress{m.ProgressDetail.Current, m.ProgressDetail.Total}
			p.mu.Unlock()
		}
	}
}

// said is how far a pull is.
func (p *pull) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var sum progress
	for _, l := range p.layers {
		sum.current += l.current
		sum.total += l.total
	}
	if sum.total == 0 {
		return "the registry has not sent anything yet"
	}
	return fmt.Sprintf("%d of %d MiB", sum.current>>20, sum.total>>20)
}

func (p *pulls) forget(ref string, done *pull) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.active[ref] == done {
		delete(p.active, ref)
	}
}

func (p *pulls) close() {
	p.mu.Lock()
	for _, a := range p.active {
		a.cancel()
	}
	p.mu.Unlock()
	p.wg.Wait()
}
