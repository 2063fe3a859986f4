// The worker of spawnertest as a program of its own, for images.
package main

import (
	"os"

	"gmaps-scraper/spawner/spawnertest"
)

func main() {
	spawnertest.Main()
	os.Exit(124)
}
