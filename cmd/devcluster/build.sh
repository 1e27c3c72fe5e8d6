#!/bin/sh
# Builds devcluster and the program of its demo image into the given folder
# (default: bin/ of the repository). A devcluster that is running stays whole.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-$here/../../bin}
mkdir -p "$out"
out=$(cd "$out" && pwd)
kubernetes=$(cd "$here" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
version=k8s.io/component-base/version
minor=${kubernetes#v1.}
new=$(mktemp -d "$out/.devcluster-XXXXXX")
trap 'rm -rf "$new"' EXIT
cd "$here"
CGO_ENABLED=0 go build -trimpath -o "$new/" -ldflags "-s -w \
	-X $version.gitVersion=$kubernetes -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*}" \
	. ./devcluster-demo
mv "$new/devcluster" "$new/devcluster-demo" "$out/"
