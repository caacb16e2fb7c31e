# Runs a pod to its end and keeps what it said.
#
#   task.sh NAMESPACE POD SECONDS BUNDLE LAST
#
# Leaves in /millrace/out: state (refused, stuck, gone, late or done), create.txt, pod.json and log.txt. BUNDLE is a file
# that is sent into the running pod, to the standard input of its receiver; LAST is the line that its log ends with where
# all is well. Both may be empty.
ns=$1 pod=$2 seconds=$3 bundle=$4 last=$5
out=${MILLRACE_OUT:-/millrace/out}
# How long a pod may take to be placed, and an image to be pulled: another than ours may have to be fetched from afar.
patience=${MILLRACE_PATIENCE:-180}
tried=90
# It is asked for this often although it is watched: a connection may be dead without anybody having said so.
every=${MILLRACE_ASK:-15}

k() { kubectl --namespace "$ns" --request-timeout=30s "$@"; }
remove() { k delete pod "$1" --ignore-not-found --wait=false --grace-period=1 >/dev/null 2>&1; }
whole() { [ -z "$last" ] || [ "$code" != 0 ] || tail -n 1 $out/log.txt | grep -qxF -e "$last"; }
end() {
    [ -n "$watcher" ] && kill "$watcher" 2>/dev/null
    for _ in 1 2 3; do
        k get pod "$pod" -o json >$out/pod.json 2>>$out/errors.txt && break
        grep -q NotFound $out/errors.txt && break
        sleep 1
    done
    # A node under load may write the end of a log a moment after the end of its container, and a connection may break.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        k logs "$pod" -c task >$out/log.txt 2>>$out/errors.txt && whole && break
        [ "$1" = done ] || break
        sleep 0.5
    done
    rm -f $seen
    printf %s "$1" >$out/state
    exit 0
}
# What is read of a pod, as a template; $1 is where it lies. kubectl writes a line in pieces, so its end is marked.
fields() {
    task="$1.status.containerStatuses[?(@.name==\"task\")].state"
    printf '{%s.metadata.deletionTimestamp}|{%s.status.phase}|{%s.terminated.exitCode}|{%s.running.startedAt}|{%s.waiting.reason}|.{"\\n"}' "$1" "$1" "$task" "$task" "$task"
}
# To watch a pod costs one kubectl; to ask for it again and again costs a processor. A watch of a list begins where the list
# ends: one of a pod by its name would leave out what happens in between.
watcher='' seen=$out/.seen
watch() {
    : >$seen
    kubectl --namespace "$ns" get pods --field-selector "metadata.name=$pod" --watch --output-watch-events \
        -o "jsonpath={.type}|$(fields .object)" >$seen 2>/dev/null &
    watcher=$!
}
trap 'remove "$pod"' EXIT
trap 'exit 143' TERM INT

# What a run left that was killed.
k get pods -l millrace.dev/expires -o 'jsonpath={range .items[*]}{.metadata.name} {.metadata.labels.millrace\.dev/expires}{"\n"}{end}' 2>/dev/null |
while read -r name expires; do
    [ "$(date +%s)" -gt "$expires" ] && remove "$name"
done

if ! k create -f /millrace/pod.json >$out/create.txt 2>&1; then
    printf refused >$out/state
    exit 0
fi
watch
began=$(date +%s) asked=$(date +%s) status='' started='' waited='' failures=0
while :; do
    now=$(date +%s)
    if kill -0 "$watcher" 2>/dev/null && [ $((now - asked)) -lt "$every" ]; then
        news=$(grep '^[AMD].*|\.$' $seen | tail -n 1)
        status=${news:-$status}
    elif news=$(k get pod "$pod" -o "jsonpath=$(fields '')" 2>$out/get.txt); then
        failures=0 asked=$now status="SEEN|$news"
        # The watch was ended by the cluster, or is not allowed.
        if ! kill -0 "$watcher" 2>/dev/null; then
            sleep 1
            watch
        fi
    else
        grep -q NotFound $out/get.txt && end gone
        failures=$((failures + 1))
        [ $failures -gt 20 ] && end gone
        sleep 1
        continue
    fi
    IFS='|' read -r event deleted phase code running waiting _ <<END
$status
END
    [ "$event" = DELETED ] || [ -n "$deleted" ] && end gone
    [ -n "$code" ] && end done
    [ "$phase" = Failed ] && end late
    if [ -n "$running" ]; then
        [ -z "$started" ] && started=$now
        if [ -n "$bundle" ]; then
            k exec -i "$pod" -c task --request-timeout=0 -- python /millrace/receive.py <"$bundle" >>$out/errors.txt 2>&1 && bundle=''
        fi
        [ $((now - started)) -gt "$seconds" ] && end late
    else
        case $waiting in
        InvalidImageName) end stuck ;;
        ErrImagePull | ImagePullBackOff | CreateContainerConfigError | CreateContainerError | RunContainerError)
            [ -z "$waited" ] && waited=$now
            [ $((now - waited)) -gt $tried ] && end stuck ;;
        esac
        [ -z "$started" ] && [ $((now - began)) -gt $patience ] && end stuck
    fi
    sleep 0.2
done
