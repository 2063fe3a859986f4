package simulator

import (
	"strconv"
	"strings"
)

// cityRadiusMeters is how far a city named in a keyword reaches.
const cityRadiusMeters = 25_000

// question is what a keyword asks of the synthetic places; the package comment has its grammar.
type question struct {
	set      uint64
	all      bool // no bound on the number of places
	shard    int  // counted from 0
	shards   int  // 0: not sharded
	category int  // -1: any
	city     int  // -1: none named
	nothing  bool // names what is not there
}

// parse reads a keyword. synthetic is false if it names no set; the question is then of the default set, and lenient about unknown words.
func (w *world) parse(keyword string) (q question, synthetic bool) {
	q = question{category: -1, city: -1}
	var words []string
	for word := range strings.FieldsSeq(strings.ToLower(keyword)) {
		name, isSet := strings.CutPrefix(word, "synthetic")
		all := false
		if isSet {
			name, all = strings.CutPrefix(name, "all")
		}
		if isSet && (name == "" || len(name) > 1 && name[0] == ':') {
			synthetic, q.all = true, all
			q.set = setTag(strings.TrimPrefix(name, ":"))
			continue
		}
		words = append(words, word)
	}
	text := " " + strings.Join(words, " ") + " "
	for i := range w.categories {
		name := strings.ToLower(w.categories[i].name)
		for _, form := range []string{name, name + "s", strings.TrimSuffix(name, "y") + "ies"} {
			if rest, ok := cutWords(text, form); ok && q.category < 0 {
				q.category, text = i, rest
			}
		}
	}
	for i := range w.cities {
		for _, name := range []string{w.cities[i].englishWord, strings.ToLower(w.cities[i].name)} {
			if rest, ok := cutWords(text, name); ok && q.city < 0 {
				q.city, text = i, rest
			}
		}
	}
	for word := range strings.FieldsSeq(text) {
		switch k, n, ok := parseShard(word); {
		case ok:
			q.shard, q.shards, q.all = k-1, n, true
		case word == "in" || word == "near" || word == "the":
		case synthetic:
			q.nothing = true
		}
	}
	return q, synthetic
}

// cutWords takes whole words out of a text, in which every word has a space on both sides.
func cutWords(text, words string) (rest string, found bool) {
	before, after, found := strings.Cut(text, " "+words+" ")
	return before + " " + after, found
}

// parseShard reads "17/100".
func parseShard(word string) (k, n int, ok bool) {
	a, b, ok := strings.Cut(word, "/")
	k, errK := strconv.Atoi(a)
	n, errN := strconv.Atoi(b)
	return k, n, ok && errK == nil && errN == nil && k >= 1 && k <= n
}
