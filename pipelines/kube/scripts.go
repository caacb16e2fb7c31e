package kube

// The scripts are fixed: all that differs comes as arguments or as the secret input. Values of Secrets go from one command to
// the next through pipes and memory, and never into what a script says. kubectl's own validation is off: it downloads the whole
// OpenAPI document each time, and what is applied has been checked by then.

// lookScript finds out what is there: the server, the namespace, the lease, the records of releases. $1 is the namespace.
const lookScript = `set -e
kubectl version -o json
printf '\036'
kubectl get namespace "$1" --ignore-not-found -o name || echo unknown
printf '\036'
kubectl get lease millrace-deploy --namespace "$1" --ignore-not-found -o json
printf '\036'
kubectl get secrets --namespace "$1" --selector millrace.dev/release --output jsonpath='{range .items[*]}{.metadata}{"\n"}{end}'
`

// contentScript prints the content of a record, without the values of Secrets. $1 is the namespace, $2 the record.
const contentScript = `kubectl get secret "$2" --namespace "$1" --output jsonpath='{.data.release}'
`

// namespaceScript makes the namespace of the input, for all that follows lies in it.
const namespaceScript = `kubectl apply --validate=false --server-side --force-conflicts --field-manager millrace -f /run/millrace/input -o name
`

// snapshotScript prints the live state of the input's objects, then which of some Secrets exist.
// $1 is the namespace, the rest are names of Secrets.
const snapshotScript = `set -e
ns=$1; shift
if [ -s /run/millrace/input ]; then kubectl get -f /run/millrace/input --ignore-not-found -o json; fi
printf '\036'
if [ $# -gt 0 ]; then kubectl get secrets "$@" --namespace "$ns" --ignore-not-found -o name; fi
`

// rehearseScript has the server check the input as if it were applied. It prints whom fields would be taken from.
const rehearseScript = `
rehearse() { kubectl apply --validate=false --server-side --dry-run=server --field-manager millrace -f /run/millrace/input -o name "$@"; }
rehearse >/dev/null 2>/run/millrace/scratch/conflicts && exit 0
if grep -q 'Apply failed with' /run/millrace/scratch/conflicts; then
	grep -v '^Error from server\|^$' /run/millrace/scratch/conflicts
	rehearse --force-conflicts >/dev/null
	exit
fi
cat /run/millrace/scratch/conflicts >&2
exit 1
`

// diffScript prints how the cluster would change; kubectl masks the values of Secrets. Its exit code 1 means that it would.
const diffScript = `KUBECTL_EXTERNAL_DIFF='diff -u -N' kubectl diff --server-side --force-conflicts --field-manager millrace -f /run/millrace/input
code=$?
[ $code -le 1 ]
`

// recordScript writes the record that is its input, and adds to it the values of Secrets: those that are there now, and those
// of an older record. $1 is the namespace, $2 the record, $3 the older record or nothing, the rest are names of Secrets.
const recordScript = `set -e
ns=$1 record=$2 older=$3; shift 3
kubectl create --validate=false -f /run/millrace/input -o name
cd /run/millrace/scratch
printf '{"metadata":{"labels":{"millrace.dev/status":"deploying","millrace.dev/phase":"recorded"}},"data":{' >patch
comma=
if [ $# -gt 0 ]; then
	kubectl get secrets "$@" --namespace "$ns" --ignore-not-found -o json >live
	if [ -s live ]; then
		kubectl patch --local -f live --type json -o json --patch '[{"op":"remove","path":"/metadata/uid"},{"op":"remove","path":"/metadata/resourceVersion"},{"op":"remove","path":"/metadata/creationTimestamp"}]' >clean
		printf '"before":"' >>patch
		gzip -9 <clean | base64 | tr -d '\n' >>patch
		printf '"' >>patch
		comma=,
	fi
fi
if [ -n "$older" ]; then
	kubectl get secret "$older" --namespace "$ns" --output jsonpath='{.data.secrets}' >secrets
	if [ -s secrets ]; then
		printf '%s"secrets":"' "$comma" >>patch
		cat secrets >>patch
		printf '"' >>patch
	fi
fi
printf '}}' >>patch
kubectl patch secret "$record" --namespace "$ns" --type merge --patch-file patch -o name
`

// plainRecordScript writes the record that is its input, of a release without Secrets.
const plainRecordScript = `kubectl create --validate=false -f /run/millrace/input -o name
`

// waitPart waits for workloads, at most $1 seconds, and then prints the state of the namespace $2. It ends as soon as all are up;
// whether they are is for who reads the state to say.
const waitPart = `
until_up() {
	end=$(($(date +%s) + $1)); ns=$2; shift 2
	for workload; do
		left=$((end - $(date +%s)))
		[ $left -ge 1 ] || break
		case $workload in
		job.*) kubectl wait "$workload" --namespace "$ns" --for=condition=complete --timeout "${left}s" ;;
		*) kubectl rollout status "$workload" --namespace "$ns" --timeout "${left}s" ;;
		esac >/dev/null 2>&1 || break
	done
	kubectl get deployments,statefulsets,daemonsets,jobs,replicasets,pods,events --namespace "$ns" -o json
}
`

// waitScript is waitPart alone.
const waitScript = waitPart + `until_up "$@"
`

// phaseScript notes how far a release has come. $1 is the namespace, $2 the record, $3 a patch.
const phaseScript = `kubectl patch secret "$2" --namespace "$1" --type merge --patch "$3" -o name
`

// applyScript applies the input, and the Secrets of an older record, and waits for a moment.
// $1 is the namespace, $2 the record, $3 the older record or nothing, $4 the seconds to wait; then follow names of jobs that
// are to run again, a --, and the workloads to wait for.
const applyScript = waitPart + `
ns=$1 record=$2 older=$3 seconds=$4; shift 4
phase() { kubectl patch secret "$record" --namespace "$ns" --type merge --patch '{"metadata":{"labels":{"millrace.dev/phase":"'"$1"'"}}}' -o name; }
apply() { kubectl apply --validate=false --server-side --force-conflicts --field-manager millrace -f "$1" -o name; }
phase applying || exit
while [ "$1" != -- ]; do
	kubectl delete job "$1" --namespace "$ns" --ignore-not-found --cascade=foreground --timeout 30s || exit
	shift
done
shift
if [ -n "$older" ]; then
	kubectl get secret "$older" --namespace "$ns" --output jsonpath='{.data.secrets}' | base64 -d >/run/millrace/scratch/packed || exit
	if [ -s /run/millrace/scratch/packed ]; then
		gunzip </run/millrace/scratch/packed >/run/millrace/scratch/secrets || exit
		apply /run/millrace/scratch/secrets || exit
	fi
fi
apply /run/millrace/input || exit
phase waiting || exit
printf '\036'
until_up "$seconds" "$ns" "$@"
`

// restoreScript brings back the state before a release: the Secrets of its record, the input's objects, and without the
// objects that were not there. $1 is the namespace, $2 the record, $3 the list of objects to delete or nothing, $4 the seconds
// to wait, the rest are workloads to wait for. What can't be restored does not keep the rest from being.
const restoreScript = waitPart + `
ns=$1 record=$2 gone=$3 seconds=$4; shift 4
code=0
apply() { kubectl apply --validate=false --server-side --force-conflicts --field-manager millrace -f "$1" -o name || code=1; }
kubectl get secret "$record" --namespace "$ns" --output jsonpath='{.data.before}' >/run/millrace/scratch/coded || exit
base64 -d </run/millrace/scratch/coded >/run/millrace/scratch/packed
if [ -s /run/millrace/scratch/packed ]; then
	gunzip </run/millrace/scratch/packed >/run/millrace/scratch/before || exit
	apply /run/millrace/scratch/before
fi
if [ -s /run/millrace/input ]; then apply /run/millrace/input; fi
if [ -n "$gone" ]; then
	printf '%s' "$gone" >/run/millrace/scratch/gone
	kubectl delete -f /run/millrace/scratch/gone --ignore-not-found --wait=false -o name || code=1
fi
printf '\036'
[ $code = 0 ] || exit $code
until_up "$seconds" "$ns" "$@"
`

// finishScript notes how a release ended, and clears up. $1 is the namespace, $2 the record, $3 its patch, $4 the list of
// objects that are of no release any more or nothing; then follow records that are superseded, a --, and records to delete.
const finishScript = `
ns=$1 record=$2 patch=$3 gone=$4; shift 4
kubectl patch secret "$record" --namespace "$ns" --type merge --patch "$patch" -o name || exit
while [ "$1" != -- ]; do
	kubectl label secret "$1" --namespace "$ns" --overwrite millrace.dev/status=superseded || exit
	shift
done
shift
if [ $# -gt 0 ]; then kubectl delete secret "$@" --namespace "$ns" --ignore-not-found --wait=false -o name || exit; fi
if [ -n "$gone" ]; then
	printf '%s' "$gone" >/run/millrace/scratch/gone
	kubectl delete -f /run/millrace/scratch/gone --ignore-not-found --wait=false -o name
fi
`

// logsScript prints the last words of a container. $1 is the namespace, $2 the pod, $3 the container, $4 --previous or nothing.
const logsScript = `kubectl logs "$2" --namespace "$1" --container "$3" --tail 40 ${4:+"$4"}
`

// deleteScript deletes the input's objects, which need not be there.
const deleteScript = `kubectl delete -f /run/millrace/input --ignore-not-found --wait=false -o name
`

// scaleScript sets the number of a Deployment's pods. $1 is the namespace, $2 the Deployment, $3 the number.
const scaleScript = `kubectl scale deployment "$2" --namespace "$1" --replicas "$3"
`

// jobSelector finds the Jobs that train.
const jobSelector = `app.kubernetes.io/managed-by=millrace,app.kubernetes.io/component=training`

// startJobScript first removes what runs left that were killed, and prints the names of those Jobs. Then it makes the Secret and the
// Job of the input, and has the one go with the other. $1 is the namespace, $2 the name of both, $3 the seconds after which a Job
// that nobody has looked after is one of a run that was killed.
const startJobScript = `
kubectl get jobs --namespace "$1" --selector ` + jobSelector + ` --output 'jsonpath={range .items[*]}{.metadata.name} {.metadata.annotations.millrace\.dev/seen}{"\n"}{end}' >/tmp/millrace/jobs || exit
now=$(date +%s)
while read -r name seen; do
	[ $((now - ${seen:-0})) -gt "$3" ] || continue
	kubectl delete "job/$name" "secret/$name" --namespace "$1" --ignore-not-found --wait=false >/dev/null || exit
	echo "$name"
done </tmp/millrace/jobs
printf '\036'
kubectl create --validate=false -f /run/millrace/input -o name || exit
uid=$(kubectl get job "$2" --namespace "$1" --output 'jsonpath={.metadata.uid}') || exit
kubectl patch secret "$2" --namespace "$1" --type merge --output name --patch '{"metadata":{"ownerReferences":[{"apiVersion":"batch/v1","kind":"Job","name":"'"$2"'","uid":"'"$uid"'"}]}}'
`

// lookJobScript says that somebody looks after a Job, waits for its end, and prints it, its pods, the namespace's warnings, and what
// is new of the pods' output. $1 is the namespace, $2 the Job, $3 how many seconds it waits, $4 the container, $5 since when.
const lookJobScript = `
kubectl annotate job "$2" --namespace "$1" --overwrite millrace.dev/seen="$(date +%s)" >/dev/null
kubectl wait job "$2" --namespace "$1" --for=condition=complete --timeout "${3}s" >/dev/null 2>&1
set -e
kubectl get job "$2" --namespace "$1" --ignore-not-found -o json
printf '\036'
kubectl get pods --namespace "$1" --selector job-name="$2" -o json
printf '\036'
kubectl get events --namespace "$1" --field-selector type!=Normal -o json
printf '\036'
kubectl logs --namespace "$1" --selector job-name="$2" --container "$4" --prefix --timestamps --ignore-errors --tail 200 ${5:+--since-time="$5"} || true
`

// endJobScript removes a Job with its pods and its Secret. $1 is the namespace, $2 the name of both.
const endJobScript = `kubectl delete "job/$2" "secret/$2" --namespace "$1" --ignore-not-found --wait=false -o name
`
