package app

import (
	"log/slog"
	"math"
	"runtime/debug"
	"testing"
)

// garbageSettings reads what is set now, as GOGC and GOMEMLIMIT name it.
func garbageSettings() (percent int, limit int64) {
	percent = debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	return percent, debug.SetMemoryLimit(-1)
}

func TestMemory_garbage_is_collected_rarely_within_a_limit_unless_the_environment_says_else(t *testing.T) {
	percentBefore, limitBefore := garbageSettings()
	t.Cleanup(func() {
		debug.SetGCPercent(percentBefore)
		debug.SetMemoryLimit(limitBefore)
	})
	cases := map[string]struct {
		environment map[string]string
		percent     int
		limited     bool
	}{
		"nothing set":        {nil, garbagePercent, true},
		"GOGC wins":          {map[string]string{"GOGC": "100"}, 100, true},
		"GOMEMLIMIT wins":    {map[string]string{"GOMEMLIMIT": "off"}, garbagePercent, false},
		"the share is wrong": {map[string]string{"AUTOMEMLIMIT": "much"}, 100, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			debug.SetGCPercent(100)
			debug.SetMemoryLimit(math.MaxInt64)
			for key, value := range c.environment {
				t.Setenv(key, value)
			}
			tradeMemoryForTime(slog.New(slog.DiscardHandler))
			percent, limit := garbageSettings()
			if percent != c.percent || (limit < math.MaxInt64) != c.limited {
				t.Errorf("GOGC=%d GOMEMLIMIT=%d, want %d and a limit: %v", percent, limit, c.percent, c.limited)
			}
		})
	}
}
