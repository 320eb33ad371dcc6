// Command etcd is upstream's etcd server, built from its released module.
//
// Upstream's own main package lives in a module whose replace directives forbid
// `go install`; its whole content is this one call.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
