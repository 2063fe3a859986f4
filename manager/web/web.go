// Package web is the dashboard: pages rendered on the server that work without JavaScript, except for the live part of a job's page.
// It reads and changes jobs through the API alone. Who may see it is decided before a request arrives here.
package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"strings"

	"gmaps-scraper/api"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static
var staticFiles embed.FS

// Config is what the dashboard is made of.
type Config struct {
	// API is a client that may see and change all jobs.
	API *api.Client
	// Version of the program, shown at the foot of each page.
	Version string
	// Open says that nobody needs to log in, so that nobody can log out.
	Open bool
	// Backend is the name of the spawner: none, process, docker…
	Backend string
}

// dashboard answers with pages.
type dashboard struct {
	api     *api.Client
	version string
	open    bool
	backend string
	pages   map[string]*template.Template
}

// The pages, by the names of their templates.
const (
	pageJobs    = "jobs"
	pageNewJob  = "newjob"
	pageJob     = "job"
	pageResults = "results"
	pageLogin   = "login"
	pageError   = "error"
)

// New returns the handler of /, /jobs/…, /login (GET), /favicon.ico and /static/….
func New(c Config) (http.Handler, error) {
	if c.API == nil {
		return nil, errors.New("the dashboard needs a client of the API")
	}
	d := &dashboard{api: c.API, version: c.Version, open: c.Open, backend: c.Backend, pages: map[string]*template.Template{}}
	assets, err := hashAssets()
	if err != nil {
		return nil, err
	}
	base, err := template.New("base.html").Funcs(functions(assets)).ParseFS(templateFiles, "templates/base.html")
	if err != nil {
		return nil, fmt.Errorf("parse templates: %w", err)
	}
	for _, name := range []string{pageJobs, pageNewJob, pageJob, pageResults, pageLogin, pageError} {
		page, err := base.Clone()
		if err == nil {
			page, err = page.ParseFS(templateFiles, "templates/"+name+".html")
		}
		if err != nil {
			return nil, fmt.Errorf("parse template %s: %w", name, err)
		}
		d.pages[name] = page
	}

	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", d.listJobs)
	mux.Handle("GET /jobs", http.RedirectHandler("/", http.StatusSeeOther))
	mux.HandleFunc("GET /jobs/new", d.newJob)
	mux.HandleFunc("POST /jobs", d.createJob)
	mux.HandleFunc("GET /jobs/{id}", d.showJob)
	mux.HandleFunc("POST /jobs/{id}/{action}", d.changeJob)
	mux.HandleFunc("GET /jobs/{id}/results", d.listResults)
	mux.HandleFunc("GET /login", d.login)
	mux.Handle("GET /static/", cached(http.FileServerFS(staticFiles)))
	mux.Handle("GET /favicon.ico", http.RedirectHandler("/static/icon.svg", http.StatusMovedPermanently))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		d.fail(w, http.StatusNotFound, "There is no such page", "Begin at the list of jobs.")
	})
	return protect(mux), nil
}

// hashAssets returns the address of each static file with a hash of its content, so that it can be cached for ever.
func hashAssets() (map[string]string, error) {
	assets := map[string]string{}
	err := fs.WalkDir(staticFiles, "static", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		b, err := staticFiles.ReadFile(path)
		sum := sha256.Sum256(b)
		assets[strings.TrimPrefix(path, "static/")] = "/" + path + "?v=" + hex.EncodeToString(sum[:6])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read static files: %w", err)
	}
	return assets, nil
}

// protect lets pages load nothing but this server's own files, run no script but its own, and be framed by nobody.
func protect(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		next.ServeHTTP(w, r)
	})
}

func cached(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") {
			http.NotFound(w, r)
			return
		}
		if r.URL.Query().Has("v") {
			w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		}
		next.ServeHTTP(w, r)
	})
}

// page is what every template gets.
type page struct {
	Title   string
	Version string
	Open    bool
	Backend string
	// Public pages have no navigation: nobody is logged in.
	Public bool
	Body   any
}

// render answers with a page. A page that cannot be rendered is an error of ours and is answered as one, never cut in half.
func (d *dashboard) render(w http.ResponseWriter, status int, name, title string, body any) {
	p := page{Title: title, Version: d.version, Open: d.open, Backend: d.backend, Public: name == pageLogin, Body: body}
	var b bytes.Buffer
	if err := d.pages[name].ExecuteTemplate(&b, "base.html", p); err != nil {
		panic(fmt.Errorf("render page %s: %w", name, err))
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // who has gone away needs no answer
}

// failure is the body of the error page.
type failure struct {
	Status int
	What   string
	Mend   string
}

func (d *dashboard) fail(w http.ResponseWriter, status int, what, mend string) {
	d.render(w, status, pageError, what, failure{status, what, mend})
}

// failWith answers with what the API said.
func (d *dashboard) failWith(w http.ResponseWriter, err error) {
	f := explain(err)
	d.fail(w, f.Status, f.What, f.Mend)
}

// explain turns an error of the API into words for a person.
func explain(err error) failure {
	problem, ok := errors.AsType[*api.Problem](err)
	switch {
	case !ok:
		return failure{http.StatusBadGateway, "The Manager did not answer", "Load the page again; if it stays so, look at the Manager's log."}
	case problem.Status == http.StatusNotFound:
		return failure{problem.Status, "There is no such job", "It may have been deleted. The list has all that there are."}
	case problem.Status == http.StatusConflict:
		return failure{problem.Status, "This is not possible in the job's state", "The job has moved on since the page was loaded; what is possible now is below."}
	case problem.Status == http.StatusServiceUnavailable:
		return failure{problem.Status, "The database cannot answer now", "Nothing was changed. Try again in a few seconds."}
	case problem.Status == http.StatusUnprocessableEntity || problem.Status == http.StatusBadRequest:
		return failure{problem.Status, problem.Error(), "Correct the filter or the address of the page."}
	default:
		return failure{problem.Status, problem.Error(), "The Manager's log has more."}
	}
}

// login shows the form; the Manager takes it.
func (d *dashboard) login(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	next := q.Get("next")
	if next == "" {
		next = "/"
	}
	d.render(w, http.StatusOK, pageLogin, "Log in", struct {
		Next  string
		Wrong bool
	}{next, q.Has("error")})
}
