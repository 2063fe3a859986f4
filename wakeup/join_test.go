package wakeup

import (
	"context"
	"errors"
	"testing"
)

func TestAJointHearsAndRingsAllItsBells(t *testing.T) {
	t.Parallel()
	var a, b Memory
	j := Join(&a, &b)
	defer j.Close()

	for name, bell := range map[string]Bell{"a": &a, "b": &b, "joint": j} {
		next := j.Next()
		ring(t, bell)
		waitRung(t, name, next)
	}
	atA, atB := a.Next(), b.Next()
	ring(t, j)
	if !rung(atA) || !rung(atB) {
		t.Error("a bell of the joint was not rung")
	}
}

func TestNextOfAJointStartsNothing(t *testing.T) {
	t.Parallel()
	var a Memory
	j := Join(&a)
	defer j.Close()
	first := j.Next()
	for range 100 {
		if j.Next() != first {
			t.Fatal("each wait has a channel of its own")
		}
	}
}

func TestNoRingFallsBetweenTwoWaits(t *testing.T) {
	t.Parallel()
	var a Memory
	j := Join(&a)
	defer j.Close()
	for range 5000 {
		next := j.Next()
		ring(t, &a)
		waitRung(t, "of many", next)
	}
}

type deadBell struct{ Memory }

var errDead = errors.New("dead")

func (*deadBell) Ring(context.Context) error { return errDead }

func TestADeadBellDoesNotKeepOthersFromRinging(t *testing.T) {
	t.Parallel()
	var last Memory
	j := Join(&deadBell{}, &last)
	defer j.Close()
	atLast, here := last.Next(), j.Next()
	if err := j.Ring(t.Context()); !errors.Is(err, errDead) {
		t.Errorf("err is %v", err)
	}
	if !rung(atLast) || !rung(here) {
		t.Error("not rung")
	}
}
