module github.com/polyglot-dev/polyglot-operator/platform/node/pause

go 1.26
