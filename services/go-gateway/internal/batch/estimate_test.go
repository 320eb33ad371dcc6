package batch

import (
	"testing"
	"time"
)

func TestEstimate_is_the_line_through_the_last_batches(t *testing.T) {
	now := time.Now()
	line := func(n int) time.Duration { return 10*time.Millisecond + time.Duration(n)*time.Millisecond }
	cases := map[string]struct {
		sizes []int
		took  func(rows int) time.Duration
		want  time.Duration // of 20 rows
	}{
		"a base and a slope":       {[]int{1, 5, 9, 32, 4}, line, 30 * time.Millisecond},
		"proportional":             {[]int{1, 2, 8}, func(n int) time.Duration { return time.Duration(n) * time.Millisecond }, 20 * time.Millisecond},
		"one size only":            {[]int{4, 4, 4}, line, 14 * time.Millisecond},
		"more rows took less time": {[]int{1, 2}, func(n int) time.Duration { return time.Duration(3-n) * time.Second }, 1487 * time.Millisecond},
		"no rows would take less":  {[]int{1, 3}, func(n int) time.Duration { return time.Duration(n*n) * time.Millisecond }, 50380 * time.Microsecond},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			var e estimate
			for _, rows := range c.sizes {
				e.observe(rows, c.took(rows), now)
			}
			got, known := e.of(20, now)
			if !known || (got-c.want).Abs() > c.want/1000 {
				t.Errorf("got %v, %v, want %v", got, known, c.want)
			}
		})
	}
}

func TestEstimate_follows_a_change_and_is_forgotten(t *testing.T) {
	now := time.Now()
	var e estimate
	if _, known := e.of(1, now); known {
		t.Error("something is known before the first batch")
	}
	for range 100 {
		e.observe(1, time.Second, now)
	}
	for range 100 {
		e.observe(1, time.Millisecond, now)
	}
	if got, _ := e.of(1, now); got > 8*time.Millisecond {
		t.Errorf("after 100 batches of 1 ms it says %v", got)
	}
	if _, known := e.of(1, now.Add(2*time.Second)); known {
		t.Error("it is believed without a batch for 2 s")
	}
}
