package simulator_test

import (
	"fmt"
	"io"
	"log"
	"net/http/httptest"

	"gmaps-scraper/gmaps"
	"gmaps-scraper/gmaps/simulator"
)

func Example() {
	sim, err := simulator.New(simulator.Config{Synthetic: 1_000, Seed: 7})
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(sim)
	defer server.Close()

	resp, err := server.Client().Get(gmaps.PlaceURL(server.URL, simulator.SyntheticPlace(7, 12).DataID, "en", ""))
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	payload, err := io.ReadAll(resp.Body)
	if err != nil {
		log.Fatal(err)
	}
	place, err := gmaps.DecodePlace(payload, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(place.Title == simulator.SyntheticPlace(7, 12).Title, sim.Stats().Requests["detail"])
	// Output: true 1
}
