package storetest

import "testing"

func checkModel(t *testing.T, open func(t *testing.T) Fixture) {}
