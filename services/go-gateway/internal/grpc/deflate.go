package grpc

import (
	"compress/zlib"
	"io"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // registers gzip
)

func init() { //nolint:gochecknoinits // grpc-go finds compressors only in its registry, which must be filled before the first call
	encoding.RegisterCompressor(deflate{})
}

// deflate is gRPC's other compression, by zlib's format. grpc-go brings gzip alone; it bounds what either unpacks by
// MaxRecvMsgSize. Source: https://github.com/grpc/grpc/blob/master/doc/compression.md
type deflate struct{}

func (deflate) Name() string { return "deflate" }

func (deflate) Compress(w io.Writer) (io.WriteCloser, error) {
	return zlib.NewWriterLevel(w, zlib.BestSpeed)
}

func (deflate) Decompress(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) }
