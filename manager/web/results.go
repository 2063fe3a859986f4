package web

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"gmaps-scraper/api"
	"gmaps-scraper/job"
)

const resultsPerPage = 100

// resultsView is the body of the table of results.
type resultsView struct {
	Job     job.Job
	Results []job.Result
	// Filter holds the filter's fields as they were typed.
	Filter map[string]string
	Error  string // why the filter cannot be used
	Next   string // address of the next page
	First  string // address of the first page; empty on it
	Query  string // the filter, for the export links: "&city=…"
}

// Filtered reports whether the table is less than all.
func (v resultsView) Filtered() bool { return v.Query != "" }

// filterFields are the conditions that results are selected by, named as in the API.
func filterFields() []string {
	return []string{"search", "category", "city", "country", "min_rating", "website", "phone"}
}

func (d *dashboard) listResults(w http.ResponseWriter, r *http.Request) {
	id := job.ID(r.PathValue("id"))
	j, err := d.api.Job(r.Context(), id)
	if err != nil {
		d.failWith(w, err)
		return
	}
	v := resultsView{Job: j, Filter: map[string]string{}}
	in, kept := r.URL.Query(), url.Values{}
	for _, name := range filterFields() {
		if s := strings.TrimSpace(in.Get(name)); s != "" {
			v.Filter[name] = s
			kept.Set(name, s)
		}
	}
	if len(kept) > 0 {
		v.Query = "&" + kept.Encode()
	}
	q, problem := resultQuery(v.Filter)
	if after := in.Get("after"); after != "" {
		if q.After, err = strconv.ParseInt(after, 10, 64); err != nil || q.After < 0 {
			problem = "The address of the page is not right: begin at the first page."
		}
		v.First = resultsPage(id, kept, "")
	}
	if problem != "" {
		v.Error = problem
		d.render(w, http.StatusUnprocessableEntity, pageResults, "Results of "+j.Spec.Name, v)
		return
	}
	list, err := d.api.Results(r.Context(), id, q)
	if err != nil {
		f := explain(err)
		if f.Status != http.StatusUnprocessableEntity {
			d.fail(w, f.Status, f.What, f.Mend)
			return
		}
		v.Error = f.What
		d.render(w, f.Status, pageResults, "Results of "+j.Spec.Name, v)
		return
	}
	v.Results = list.Results
	if list.Next != "" {
		v.Next = resultsPage(id, kept, list.Next)
	}
	d.render(w, http.StatusOK, pageResults, "Results of "+j.Spec.Name, v)
}

// resultQuery reads the filter, or says in words what is wrong with it.
func resultQuery(f map[string]string) (q api.ResultQuery, problem string) {
	q = api.ResultQuery{Search: f["search"], Category: f["category"], City: f["city"], Country: strings.ToUpper(f["country"]), Limit: resultsPerPage}
	if s := f["min_rating"]; s != "" {
		rating, err := strconv.ParseFloat(strings.ReplaceAll(s, ",", "."), 64)
		if err != nil || !(rating >= 0 && rating <= 5) {
			return q, "The rating must be a number from 0 to 5, such as 4.5."
		}
		q.MinRating = rating
	}
	q.Website, q.Phone = yesNo(f["website"]), yesNo(f["phone"])
	return q, ""
}

func yesNo(s string) *bool {
	if s != "true" && s != "false" {
		return nil
	}
	yes := s == "true"
	return &yes
}

// resultsPage is the address of a page of the table.
func resultsPage(id job.ID, filter url.Values, after string) string {
	q := url.Values{}
	for name := range filter {
		q.Set(name, filter.Get(name))
	}
	if after != "" {
		q.Set("after", after)
	}
	if len(q) == 0 {
		return jobPath(id) + "/results"
	}
	return jobPath(id) + "/results?" + q.Encode()
}
