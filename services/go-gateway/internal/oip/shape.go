package oip

import (
	"fmt"
	"math"
	"strings"
)

// elements is the number of elements of a tensor of that shape; a shape without dimensions is a scalar.
func elements(shape []int64) (int64, error) {
	count := int64(1)
	for _, dimension := range shape {
		if dimension < 0 {
			return 0, fmt.Errorf("shape %s has a negative dimension", shapeText(shape))
		}
		if dimension > 0 && count > math.MaxInt64/largestSize/dimension {
			return 0, fmt.Errorf("shape %s holds more elements than can be addressed", shapeText(shape))
		}
		count *= dimension
	}
	return count, nil
}

// shapeText is the shape as JSON writes it.
func shapeText(shape []int64) string {
	return strings.ReplaceAll(fmt.Sprint(shape), " ", ",")
}
