package simulator

import (
	"bufio"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
)

// serveStats is GET /simulator/stats: Stats as JSON.
func (s *Simulator) serveStats(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s.Stats()) // a client that left is no concern of ours
}

// ledgerLine is one place that a complete search must find.
type ledgerLine struct {
	DataID string  `json:"data_id"`
	Lat    float64 `json:"lat"`
	Lng    float64 `json:"lng"`
}

// serveLedger is GET /simulator/places: set is a keyword as in a search ("synthetic" if empty); lat, lng and radius (metres)
// bound it to a circle. It knows no bound per query: it lists what the simulator has, not what one search returns.
func (s *Simulator) serveLedger(w http.ResponseWriter, r *http.Request) {
	values := r.URL.Query()
	keyword := values.Get("set")
	if keyword == "" {
		keyword = "synthetic"
	}
	q, ok := s.world.parse(keyword)
	if !ok {
		http.Error(w, fmt.Sprintf("set: %q names no synthetic set", keyword), http.StatusBadRequest)
		return
	}
	a := wholeEarth
	if values.Has("radius") {
		lat, errLat := strconv.ParseFloat(values.Get("lat"), 64)
		lng, errLng := strconv.ParseFloat(values.Get("lng"), 64)
		radius, errRadius := strconv.ParseFloat(values.Get("radius"), 64)
		if errLat != nil || errLng != nil || errRadius != nil || !(radius > 0) || !(lat >= -90 && lat <= 90) || !(lng >= -180 && lng <= 180) {
			http.Error(w, "lat, lng: degrees; radius: metres above 0", http.StatusBadRequest)
			return
		}
		a = area{lat, lng, radius}
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := bufio.NewWriter(w)
	defer func() { _ = out.Flush() }()
	lines := json.NewEncoder(out)
	for _, index := range s.world.find(q, a, 0) {
		p := ref{q.set, index}
		at := s.world.spot(p)
		if lines.Encode(ledgerLine{s.world.dataID(p), at.lat, at.lng}) != nil {
			return
		}
	}
}

func (s *Simulator) serveIndex(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	page := indexPage{Host: r.Host, Size: s.config.Synthetic, Seed: s.config.Seed, Max: s.config.MaxPerQuery, Captured: len(s.captures.order), Stats: s.Stats()}
	for _, found := range s.captures.searches {
		page.Queries = append(page.Queries, found.query)
	}
	for i := range s.world.cities {
		page.Cities = append(page.Cities, s.world.cities[i].english)
	}
	for i := range s.world.categories {
		page.Categories = append(page.Categories, s.world.categories[i].name)
	}
	if err := template.Must(template.New("index").Parse(indexTemplate)).Execute(w, page); err != nil {
		s.log.Debug("index page not sent", "err", err)
	}
}

type indexPage struct {
	Host       string
	Size, Max  int
	Seed       uint64
	Captured   int
	Queries    []string
	Cities     []string
	Categories []string
	Stats      Stats
}

const indexTemplate = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Google Maps simulator</title><style>body{font:16px/1.5 system-ui;max-width:48rem;margin:2rem auto;padding:0 1rem}code,pre{background:#8882;padding:.1em .3em}pre{padding:1em;overflow:auto}td{padding-right:2em}</style>
<h1>Google Maps simulator</h1>
<p>This is a stand-in for Google Maps: it speaks the wire format of Maps over made-up places{{if .Captured}} and {{.Captured}} captured ones{{end}}. Nothing here is asked of Google.</p>
<h2>Try it</h2>
<pre>echo 'synthetic cafe Athens' | gmaps-scraper -input - -maps-url http://{{.Host}} -results out.csv
echo 'syntheticall'          | gmaps-scraper -input - -maps-url http://{{.Host}} -results all.csv
echo 'synthetic bar'         | gmaps-scraper -input - -maps-url http://{{.Host}} -geo 37.976,23.735 -radius 5000 -results bars.csv
for k in $(seq 100); do echo "synthetic $k/100"; done | gmaps-scraper -input - -maps-url http://{{.Host}} -results every.csv</pre>
<h2>Keywords</h2>
<table><tr><td><code>synthetic</code><td>{{.Size}} places (seed {{.Seed}}); {{if lt .Max 0}}no bound{{else}}{{.Max}}{{end}} a query, nearest first
<tr><td><code>synthetic cafe</code><td>of one category: {{range $i, $c := .Categories}}{{if $i}}, {{end}}{{$c}}{{end}}
<tr><td><code>synthetic Athens</code><td>near a city: {{range $i, $c := .Cities}}{{if $i}}, {{end}}{{$c}}{{end}}
<tr><td><code>synthetic:NAME</code><td>another set of {{.Size}} places
<tr><td><code>syntheticall</code><td>no bound on the places of a query
<tr><td><code>synthetic 17/100</code><td>shard 17 of 100, no bound
{{range .Queries}}<tr><td><code>{{.}}</code><td>captured
{{end}}<tr><td>anything else<td>{{if .Captured}}all captured places{{else}}the default set{{end}}</table>
<h2>More</h2><p><a href="/simulator/stats">Counters</a> · <a href="/simulator/places?set=synthetic&amp;lat=37.976&amp;lng=23.735&amp;radius=1000">what a complete search of a circle must find</a> · <a href="/healthz">health</a></p>
</html>`
