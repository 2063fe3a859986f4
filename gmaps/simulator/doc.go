// Package simulator is a Google Maps stand-in: an http.Handler that speaks the wire format of Maps
// (search pages, place detail, reviews, session cookies, consent, blocks) over captured or synthetic places.
// It is what `gmaps-scraper -simulator` serves, and what demos, load tests and end-to-end tests scrape.
//
// # Which places answer a search
//
// A keyword that names a synthetic set is answered by the generator:
//
//	synthetic              the default set, Config.Synthetic places; 200 places a query at most (Config.MaxPerQuery)
//	synthetic cafe         only the places whose category the words name ("hair salon", "cafe"); other words match nothing
//	synthetic bar Athens   without a viewport, a city's name limits the search to 25 km around its centre
//	synthetic:NAME         another set of the same size; any NAME of letters, digits, '-', '_'
//	syntheticall           the default set with no bound on a query's places; syntheticall:NAME likewise
//	synthetic 17/100       shard 17 of 100 (counted from 1), with no bound: the shards of a set are disjoint and complete
//
// Texts do not depend on hl: names and addresses are in the place's own script, what Google says of it is in English.
// The words may stand in any order and case, and "in", "near", "the" are ignored. The set's name may stand anywhere in the keyword.
//
// A search returns the places inside the viewport's circle, nearest to its centre first; a viewport of the whole
// earth (25,000,000 m diameter, or none) returns the set in its own order. Nothing depends on time or on earlier
// requests: one seed gives the same places, ids and order in every process.
//
// Any other keyword is answered from the captures: by every captured search with that query text, else by all captured
// places. Captures are one page per 20 places and have no viewport. When there are no captures it is answered by the
// default set, where words that name no category are ignored.
//
// # Endpoints
//
//	GET  /maps                        sets the NID cookie; ?cid= is a place page
//	GET  /search?tbm=map&q=&pb=       search, in both layouts
//	GET  /maps/preview/place?pb=      place detail
//	GET  /httpservice/web/PrivateLocalSearchUiDataService/GetLocalBoqProxy?reqpld=   reviews
//	GET  /maps/rpc/listugcposts       always empty, as for anonymous callers since 2026
//	GET  /maps/place/…, /maps/search/…  HTML without data, as plain clients get it
//	GET  /s/{code}                    short link, redirects to a place page; see Simulator.ShortLink
//	GET  /simulator/places?set=&lat=&lng=&radius=   NDJSON of what a complete search must find
//	GET  /simulator/stats, /healthz, /
package simulator
