package web

import (
	"errors"
	"fmt"
	"io"
	"math"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"

	"gmaps-scraper/api"
	"gmaps-scraper/gmaps"
	"gmaps-scraper/job"
)

const (
	maxForm     = 24 << 20 // bytes; what the API takes is more than twice a line's own
	formMemory  = 4 << 20  // the rest of an upload waits in a temporary file
	maxTextarea = 256 << 10
)

// newJobView is the form of a new job: what was typed, and what is wrong with it.
type newJobView struct {
	Values map[string]string
	// Errors by the name of the field; "" is of the form as a whole.
	Errors map[string]string
	// Key makes a form that is sent twice make one job.
	Key string
}

// formFields are the fields of the form but the file.
func formFields() []string {
	return []string{"name", "lines", "lang", "country", "where", "lat", "lng", "radius_meters", "min_lat", "min_lng", "max_lat", "max_lng",
		"zoom", "cell_meters", "strict", "depth", "detail", "extra_reviews", "max_reviews", "priority", "max_results", "max_time", "max_workers"}
}

func (d *dashboard) newJob(w http.ResponseWriter, _ *http.Request) {
	v := newJobView{Values: map[string]string{"lang": "en", "where": "anywhere", "detail": "auto"}, Key: string(job.NewID())}
	d.render(w, http.StatusOK, pageNewJob, "New job", v)
}

func (d *dashboard) createJob(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseMultipartForm(formMemory); err != nil && !errors.Is(err, http.ErrNotMultipart) {
		if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
			d.fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("The file has more than %d MB", maxForm>>20), "Cut it into several jobs, or send it through the API.")
			return
		}
		d.fail(w, http.StatusBadRequest, "The form could not be read", "Load the form again and send it once more.")
		return
	}
	if r.MultipartForm != nil {
		defer func() { _ = r.MultipartForm.RemoveAll() }() // temporary files; the system removes what stays
	}
	f := form{values: map[string]string{}, errors: map[string]string{}}
	for _, name := range formFields() {
		f.values[name] = strings.TrimSpace(r.PostFormValue(name))
	}
	n := f.read(r)
	key := r.PostFormValue("key")
	if len(f.errors) == 0 {
		j, err := d.api.Create(r.Context(), n, key)
		if err == nil {
			http.Redirect(w, r, jobPath(j.ID), http.StatusSeeOther)
			return
		}
		if !f.refused(err) {
			failed := explain(err)
			f.errors[""] = failed.What + ". " + failed.Mend
			d.render(w, failed.Status, pageNewJob, "New job", f.view(key)) // the same key: the job may have been made
			return
		}
	}
	d.render(w, http.StatusUnprocessableEntity, pageNewJob, "New job", f.view(string(job.NewID())))
}

// form gathers what was typed and what is wrong with it.
type form struct {
	values map[string]string
	errors map[string]string
}

func (f *form) view(key string) newJobView {
	if len(f.values["lines"]) > maxTextarea {
		f.values["lines"] = ""
		f.wrong("lines", "The list was too long to be shown again: choose the file once more.")
	}
	return newJobView{Values: f.values, Errors: f.errors, Key: key}
}

func (f *form) wrong(field, why string) {
	if f.errors[field] == "" {
		f.errors[field] = why
	}
}

// read turns the fields into the request to the API.
func (f *form) read(r *http.Request) api.NewJob {
	n := api.NewJob{
		Name: f.values["name"], Lang: f.values["lang"], Country: strings.ToUpper(f.values["country"]),
		Detail: gmaps.Detail(f.values["detail"]), ExtraReviews: f.values["extra_reviews"] != "", MaxTime: f.values["max_time"],
		Depth: f.whole("depth"), MaxReviews: f.whole("max_reviews"), Priority: f.whole("priority"),
		MaxResults: f.whole("max_results"), MaxWorkers: f.whole("max_workers"),
		Inputs: f.inputs(r), Area: f.area(),
	}
	if len(n.Inputs) == 0 {
		f.wrong("lines", "Give at least one search or Google Maps URL, or choose a file.")
	}
	return n
}

// inputs reads the lines here and not in the API: JSON would mend broken UTF-8 unseen, and a file has line numbers of its own.
func (f *form) inputs(r *http.Request) []job.Input {
	inputs, err := job.ReadInputs(strings.NewReader(f.values["lines"]))
	if err != nil {
		f.wrong("lines", "In "+err.Error()+".")
		return nil
	}
	file, header, err := r.FormFile("file")
	if err != nil { // none was chosen
		return inputs
	}
	defer file.Close()
	more, err := f.upload(file, header)
	if err != nil {
		f.wrong("file", fmt.Sprintf("In %s, %v.", header.Filename, err))
		return nil
	}
	return append(inputs, more...)
}

// upload reads a file and keeps its text, so that it need not be chosen again after an error elsewhere.
func (f *form) upload(file multipart.File, header *multipart.FileHeader) ([]job.Input, error) {
	inputs, err := job.ReadInputs(file)
	if err != nil || header.Size > maxTextarea {
		return inputs, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return inputs, err
	}
	text, err := io.ReadAll(file)
	f.values["lines"] = strings.TrimSpace(f.values["lines"] + "\n" + strings.TrimPrefix(string(text), "\uFEFF"))
	return inputs, err
}

// area reads where to search.
func (f *form) area() *job.Area {
	a := &job.Area{Zoom: f.whole("zoom"), Strict: f.values["strict"] != ""}
	switch f.values["where"] {
	case "point":
		a.Center = &gmaps.Point{Lat: f.degrees("lat"), Lng: f.degrees("lng")}
		a.RadiusMeters = f.decimal("radius_meters")
	case "box":
		a.Box = &job.Box{MinLat: f.degrees("min_lat"), MinLng: f.degrees("min_lng"), MaxLat: f.degrees("max_lat"), MaxLng: f.degrees("max_lng")}
		a.CellMeters = f.decimal("cell_meters")
	default:
		return nil
	}
	return a
}

// whole reads a whole number; empty is 0. Bounds are the API's to check.
func (f *form) whole(field string) int {
	s := f.values[field]
	if s == "" {
		return 0
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		f.wrong(field, fmt.Sprintf("%q is not a whole number.", s))
	}
	return n
}

// decimal reads a number; empty is 0.
func (f *form) decimal(field string) float64 {
	s := f.values[field]
	if s == "" {
		return 0
	}
	x, err := strconv.ParseFloat(strings.ReplaceAll(s, ",", "."), 64)
	if err != nil || math.IsNaN(x) || math.IsInf(x, 0) {
		f.wrong(field, fmt.Sprintf("%q is not a number.", s))
		return 0
	}
	return x
}

// degrees reads a number that must be there.
func (f *form) degrees(field string) float64 {
	if f.values[field] == "" {
		f.wrong(field, "This is needed, in degrees such as 34.67.")
	}
	return f.decimal(field)
}

// refused puts the API's violations beside their fields. It reports false for an error that is not about the form.
func (f *form) refused(err error) bool {
	problem, ok := errors.AsType[*api.Problem](err)
	if !ok || problem.Status != http.StatusUnprocessableEntity && problem.Status != http.StatusBadRequest {
		return false
	}
	for _, e := range problem.Errors {
		if strings.HasPrefix(e.Location, "header.") {
			f.wrong("", "This form was sent before with other content. It has been renewed: look at the list of jobs whether the job is there, else send it again.")
			continue
		}
		field := fieldOf(e.Location)
		message := e.Message
		if field == "" && e.Location != "" {
			message = e.Location + ": " + message
		}
		f.wrong(field, message)
	}
	if len(problem.Errors) == 0 {
		f.wrong("", problem.Error())
	}
	return true
}

// fieldOf maps a place in the API's body ("body.area.zoom") to a field of the form, "" if it has none.
func fieldOf(location string) string {
	path := strings.TrimPrefix(location, "body.")
	for _, m := range []struct{ prefix, field string }{
		{"inputs", "lines"}, {"lines", "lines"}, {"area.center.lng", "lng"}, {"area.center", "lat"},
		{"area.box.min_lng", "min_lng"}, {"area.box.max_lat", "max_lat"}, {"area.box.max_lng", "max_lng"}, {"area.box.max", "max_lat"}, {"area.box", "min_lat"},
	} {
		if strings.HasPrefix(path, m.prefix) {
			return m.field
		}
	}
	path = strings.TrimPrefix(path, "area.")
	for _, name := range formFields() {
		if name == path {
			return name
		}
	}
	if path == "area" {
		return "where"
	}
	return ""
}
