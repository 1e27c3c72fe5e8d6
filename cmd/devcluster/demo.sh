#!/usr/bin/env bash
# The demo: a disposable Kubernetes and, in front of it, Portolan, until Ctrl-C. bin/devcluster and bin/portolan are
# built. Everything starts anew each time, as the cluster does: what an earlier demo registered would lead nowhere.
set -uo pipefail
cd "$(dirname "$0")/../.."

name=k3s-local
data=.portolan/demo
log=.portolan/demo.log
listen=${PORTOLAN_LISTEN:-127.0.0.1:8080}
nodes=kwok
kind='simulated nodes: pods become ready, but nothing runs in them (as root: a real node)'
if [[ $(id -u) == 0 ]]; then
	nodes=containerd
	kind='one real node'
fi

mkdir -p .portolan
exec 9>.portolan/demo.lock
if ! flock -n 9; then
	echo "a demo is running already in this folder" >&2
	exit 1
fi

up=
portolan=
finish() {
	local status=$?
	trap '' INT TERM HUP
	echo
	echo "ending the demo"
	for child in $up $portolan; do
		kill -TERM "$child" 2>/dev/null
		wait "$child" 2>/dev/null
	done
	bin/devcluster down --name "$name" 9>&- || status=1
	exit "$status"
}
trap finish EXIT
trap 'exit 0' INT TERM HUP

# Programs run in process groups of their own: Ctrl-C ends this script, and this script ends them, in order.
set -m

echo "starting Kubernetes ($name, $kind)"
bin/devcluster down --name "$name" >/dev/null 9>&- || exit 1
bin/devcluster up --name "$name" --profile k3s --nodes "$nodes" --kubeconfig "kubeconfigs/$name" --while-pid $$ \
	</dev/null 9>&- &
up=$!
wait "$up" || exit 1
up=

echo "starting Portolan"
rm -rf "$data"
unset PORTOLAN_DATABASE_URL PORTOLAN_DATABASE_URL_FILE
PORTOLAN_DATA_DIR=$data PORTOLAN_KUBECONFIGS_DIR=kubeconfigs PORTOLAN_LISTEN=$listen \
	setpriv --pdeathsig TERM bin/portolan serve </dev/null >"$log" 2>&1 9>&- &
portolan=$!
deadline=$((SECONDS + 60))
until bin/portolan health --listen "$listen" >/dev/null 2>&1; do
	if ((SECONDS > deadline)) || ! kill -0 "$portolan" 2>/dev/null; then
		echo "Portolan did not start:" >&2
		tail -n 20 "$log" >&2
		exit 1
	fi
	sleep 0.1
done

address=$(sed -n 's/.* msg=listening .*url=\([^ ]*\).*/\1/p' "$log" | head -n 1)
token=$(sed -n 's/.* url=[^ ]*\/setup .*token=\([a-z0-9]*\).*/\1/p' "$log" | head -n 1)
echo
echo "Portolan is up."
if [[ -n $token ]]; then
	echo "  open         $address/setup"
	echo "  setup token  $token"
else
	echo "  open         $address"
fi
echo "  then         Clusters: $name is found there. Register it, test it, and deploy"
echo "               the runtime Container with the image portolan.dev/demo:1 and a port such as http=8080."
echo "  kubectl      bin/devcluster kubectl --name $name -- get pods -A"
echo "  log          $log"
echo "  end it       Ctrl-C; it takes the cluster with it"

wait "$portolan"
status=$?
portolan=
echo "Portolan ended by itself:" >&2
tail -n 20 "$log" >&2
exit "$status"
