package app

import (
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/KimMachineGun/automemlimit/memlimit"
)

// garbagePercent lets the heap grow to five times of what lives before garbage is collected, instead of twice: a gateway keeps
// little and makes much garbage, and so spends a tenth less CPU time on a call.
const garbagePercent = 400

// tradeMemoryForTime has garbage collected rarely, and more often as the process comes near nine tenths of its memory: its
// container's limit, else the machine's. GOGC and GOMEMLIMIT in the environment win. Where the memory isn't known, nothing changes.
func tradeMemoryForTime(logger *slog.Logger) {
	limit, err := memlimit.Set(memlimit.WithProvider(memlimit.ApplyFallback(memlimit.FromCgroup, memlimit.FromSystem)))
	if err != nil {
		logger.Warn("Cannot read how much memory there is; garbage is collected as often as Go does by itself. Set GOGC and GOMEMLIMIT to change that", "error", err)
		return
	}
	if _, set := os.LookupEnv("GOGC"); !set {
		debug.SetGCPercent(garbagePercent)
	}
	logger.Debug("Set when garbage is collected", "memoryLimitBytes", limit)
}
