package main

import (
	"flag"
	"fmt"
	"io"
	"strings"
)

const helpHead = `gmaps-scraper gathers places from Google Maps with workers that appear when there is work and vanish when it is done.

  echo "coffee in Athens" | gmaps-scraper -input - -results coffee.csv
  gmaps-scraper -manager -spawner process          dashboard and API on http://127.0.0.1:8080
  gmaps-scraper -worker -manager-url http://…      a worker that stays
  gmaps-scraper doctor                             checks this machine and says what to mend

Each flag can also be given as an environment variable: GMAPS_ and its name, as in GMAPS_MAX_RESULTS. The flag wins.
`

// printHelp writes every flag under its group.
func printHelp(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprint(w, helpHead)
	for _, g := range flagGroups {
		fmt.Fprintf(w, "\n%s:\n", g.title)
		for _, name := range g.flags {
			f := fs.Lookup(name)
			value, usage := flag.UnquoteUsage(f)
			head := "-" + name
			if value != "" {
				head += " " + value
			}
			if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
				usage += " (default " + f.DefValue + ")"
			}
			fmt.Fprintf(w, "  %-36s %s\n", head, usage)
		}
	}
}

// printCompletion writes a completion script that knows every flag.
func printCompletion(w io.Writer, shell string, fs *flag.FlagSet) {
	var names []string
	fs.VisitAll(func(f *flag.Flag) { names = append(names, "-"+f.Name) })
	switch shell {
	case "fish":
		fs.VisitAll(func(f *flag.Flag) {
			_, usage := flag.UnquoteUsage(f)
			fmt.Fprintf(w, "complete -c gmaps-scraper -o %s -d '%s'\n", f.Name, strings.ReplaceAll(usage, "'", `\'`))
		})
	case "zsh":
		fmt.Fprintf(w, "#compdef gmaps-scraper\n_arguments \\\n")
		fs.VisitAll(func(f *flag.Flag) {
			_, usage := flag.UnquoteUsage(f)
			usage = strings.NewReplacer("'", "", "[", "(", "]", ")", ":", " ").Replace(usage)
			fmt.Fprintf(w, "  '-%s[%s]:value:_files' \\\n", f.Name, usage)
		})
		fmt.Fprintln(w)
	default:
		fmt.Fprintf(w, `_gmaps_scraper() {
  local current=${COMP_WORDS[COMP_CWORD]}
  if [[ $current == -* ]]; then
    COMPREPLY=($(compgen -W %q -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}
complete -o default -F _gmaps_scraper gmaps-scraper
`, strings.Join(names, " "))
	}
}
