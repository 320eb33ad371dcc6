package backend

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/connectivity"
)

// clock stands still until a test moves it.
type clock struct{ now time.Time }

func (c *clock) advance(d time.Duration) { c.now = c.now.Add(d) }

func newTestPool(pods int) (*pool, []*member, *clock) {
	c := &clock{now: time.Unix(0, 0)}
	p := newPool(Options{Now: func() time.Time { return c.now }, Logger: slog.New(slog.DiscardHandler)})
	addresses := make([]string, pods)
	for i := range addresses {
		addresses[i] = fmt.Sprintf("10.0.0.%d:9000", i)
	}
	members := p.replace(addresses)
	for _, m := range members {
		m.observe(connectivity.Ready)
	}
	return p, members, c
}

func mustPick(t *testing.T, p *pool, ready []*member) ticket {
	t.Helper()
	taken, ok := p.pick(ready, nil)
	if !ok {
		t.Fatal("nothing was picked")
	}
	return taken
}

func TestPick_never_takes_a_pod_with_more_calls_than_another(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		p, members, _ := newTestPool(2 + random.IntN(6))
		var running []ticket
		for range 500 {
			if len(running) > 0 && random.IntN(100) < 45 {
				i := random.IntN(len(running))
				running[i].finish(answered)
				running = slices.Delete(running, i, i+1)
				continue
			}
			least := slices.MinFunc(members, func(a, b *member) int { return a.outstanding - b.outstanding }).outstanding
			taken := mustPick(t, p, members)
			if before := taken.member.outstanding - 1; before != least {
				t.Fatalf("seed %d: picked a pod with %d calls while one had %d", seed, before, least)
			}
			running = append(running, taken)
		}
		for _, call := range running {
			call.finish(answered)
		}
		for _, m := range members {
			if m.outstanding != 0 {
				t.Fatalf("seed %d: %s still counts %d calls", seed, m.address, m.outstanding)
			}
		}
	}
}

func TestPick_idle_pods_take_turns(t *testing.T) {
	p, members, _ := newTestPool(3)
	picks := map[string]int{}
	for range 30 {
		taken := mustPick(t, p, members)
		picks[taken.member.address]++
		taken.finish(answered)
	}
	for _, m := range members {
		if picks[m.address] != 10 {
			t.Errorf("%s got %d of 30 calls, want 10", m.address, picks[m.address])
		}
	}
}

func TestPick_passes_over_the_excluded_pod(t *testing.T) {
	p, members, _ := newTestPool(2)
	for range 5 {
		taken, ok := p.pick(members, members[0])
		if !ok || taken.member != members[1] {
			t.Fatalf("picked %v", taken.member)
		}
	}
	if _, ok := p.pick(members[:1], members[0]); ok {
		t.Error("picked the excluded pod because it was the only one")
	}
}

// failOne makes calls until one goes to m, and fails it.
func failOne(t *testing.T, p *pool, members []*member, m *member) {
	t.Helper()
	for range 100 {
		taken := mustPick(t, p, members)
		if taken.member == m {
			taken.finish(unreachable)
			return
		}
		taken.finish(answered)
	}
	t.Fatalf("%s was never picked", m.address)
}

func picksOf(t *testing.T, p *pool, members []*member, m *member, calls int, end verdict) int {
	t.Helper()
	count := 0
	for range calls {
		taken := mustPick(t, p, members)
		if taken.member == m {
			count++
			taken.finish(end)
		} else {
			taken.finish(answered)
		}
	}
	return count
}

func TestPutAside_a_failing_pod_gets_one_trial_after_each_doubled_pause(t *testing.T) {
	p, members, c := newTestPool(3)
	dead := members[1]
	failOne(t, p, members, dead)
	for _, pause := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		c.advance(pause*time.Second - time.Millisecond)
		if got := picksOf(t, p, members, dead, 30, unreachable); got != 0 {
			t.Fatalf("got %d calls before %v had passed", got, pause*time.Second)
		}
		c.advance(time.Millisecond)
		if got := picksOf(t, p, members, dead, 30, unreachable); got != 1 {
			t.Fatalf("got %d trial calls after %v, want 1", got, pause*time.Second)
		}
	}
}

func TestPutAside_one_trial_at_a_time(t *testing.T) {
	p, members, c := newTestPool(2)
	failOne(t, p, members, members[0])
	c.advance(asideFirst)
	var trials []ticket
	for range 10 { // none of these ends
		if taken := mustPick(t, p, members); taken.member == members[0] {
			trials = append(trials, taken)
		}
	}
	if len(trials) != 1 {
		t.Fatalf("%d calls went to the pod on trial, want 1", len(trials))
	}
	trials[0].finish(nothing) // the caller left: nothing is known yet, so another trial is due
	if taken := mustPick(t, p, members); taken.member != members[0] || !taken.trial {
		t.Error("no new trial after one that ended without a verdict")
	}
}

func TestPutAside_success_restores_the_pod(t *testing.T) {
	p, members, c := newTestPool(2)
	failOne(t, p, members, members[0])
	c.advance(asideFirst)
	picksOf(t, p, members, members[0], 2, answered)
	if got := picksOf(t, p, members, members[0], 10, answered); got != 5 {
		t.Errorf("got %d of 10 calls after the trial succeeded, want 5", got)
	}
	failOne(t, p, members, members[0])
	if want := c.now.Add(asideFirst); !members[0].asideUntil.Equal(want) {
		t.Errorf("the pause after a recovery is %v, want the first one", members[0].asideUntil.Sub(c.now))
	}
}

func TestPutAside_calls_that_fail_together_count_once(t *testing.T) {
	p, members, c := newTestPool(1)
	var together []ticket
	for range 50 {
		together = append(together, mustPick(t, p, members))
	}
	for _, call := range together {
		call.finish(unreachable)
		c.advance(100 * time.Millisecond)
	}
	if members[0].failures != 1 {
		t.Errorf("50 calls that were under way together count as %d failures, want 1", members[0].failures)
	}
}

func TestPutAside_an_old_success_is_no_news(t *testing.T) {
	p, members, _ := newTestPool(1)
	early, late := mustPick(t, p, members), mustPick(t, p, members)
	late.finish(unreachable)
	early.finish(answered)
	if members[0].failures != 1 {
		t.Error("a call from before the failure restored the pod")
	}
}

func TestPutAside_all_pods_are_used_where_all_are_put_aside(t *testing.T) {
	p, members, _ := newTestPool(3)
	for _, m := range members {
		failOne(t, p, members, m)
	}
	picks := map[string]int{}
	for range 30 {
		taken := mustPick(t, p, members)
		picks[taken.member.address]++
		taken.finish(nothing)
	}
	for _, m := range members {
		if picks[m.address] != 10 {
			t.Errorf("%s got %d of 30 calls, want 10", m.address, picks[m.address])
		}
	}
	recovered := mustPick(t, p, members)
	recovered.finish(answered)
	if got := picksOf(t, p, members, recovered.member, 10, answered); got != 10 {
		t.Errorf("the one pod that answered got %d of 10 calls", got)
	}
}

func TestReplace_keeps_the_record_of_pods_that_stay(t *testing.T) {
	p, members, _ := newTestPool(2)
	failOne(t, p, members, members[1])
	again := p.replace([]string{members[1].address, "10.0.0.9:9000"})
	if again[0] != members[1] || again[0].failures != 1 {
		t.Error("the pod that stayed lost its record")
	}
	if got := len(p.status()); got != 2 {
		t.Errorf("%d pods are listed, want 2", got)
	}
}

func TestIdlest_passes_over_busy_pods_and_those_put_aside_unless_all_are(t *testing.T) {
	p, members, _ := newTestPool(3)
	idlest := func(busy ...int) string {
		t.Helper()
		address, ok := p.idlest(func(address string) bool {
			return slices.ContainsFunc(busy, func(i int) bool { return members[i].address == address })
		})
		if !ok {
			return "none"
		}
		return address
	}
	loaded := mustPick(t, p, members[:1])
	fail := func(i int) { mustPick(t, p, members[i:i+1]).finish(unreachable) }
	fail(2)
	for want, got := range map[string]string{
		members[1].address: idlest(),
		members[0].address: idlest(1),
		"none":             idlest(0, 1), // the third is put aside, and a trusted pod is worth waiting for
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	loaded.finish(unreachable)
	fail(1)
	if got := idlest(0, 1); got != members[2].address {
		t.Errorf("got %s of pods that are all put aside", got)
	}
	p.replace(nil)
	if got := idlest(); got != "" {
		t.Errorf("got %s of no pods", got)
	}
}

func TestNotify_tells_of_pods_that_connect_or_are_taken_back(t *testing.T) {
	p, members, c := newTestPool(1)
	told := 0
	p.notify(func() { told++ })
	members[0].observe(connectivity.Ready)
	mustPick(t, p, members).finish(answered)
	mustPick(t, p, members).finish(unreachable)
	if told != 1 {
		t.Errorf("told %d times, want once: of the connection", told)
	}
	c.advance(asideFirst)
	mustPick(t, p, members).finish(answered)
	if told != 2 {
		t.Errorf("told %d times, want again when the pod was taken back", told)
	}
}
