# Runs k6 against one or more targets at the same time, and prints what it left as an archive in base64.
#
#   k6.sh SCRIPT NAME=URL...
#
# It runs in k6's own image, in a pod or on the engine: with nothing but a shell and busybox.
script=$1
shift
out=/tmp/out
export HOME=/tmp K6_AUTO_EXTENSION_RESOLUTION=false K6_NO_USAGE_REPORT=true
export K6_WEB_DASHBOARD=true K6_WEB_DASHBOARD_PORT=-1 K6_WEB_DASHBOARD_PERIOD=1s K6_CSV_TIME_FORMAT=unix_milli
for target in "$@"; do
    name=${target%%=*} url=${target#*=}
    mkdir -p "$out/$name"
    (
        cd "$out/$name" || exit
        K6_WEB_DASHBOARD_EXPORT="$out/$name/k6.html" BASE_URL="$url" MILLRACE_OUT="$out/$name" \
            k6 run --quiet --no-color --address= --summary-trend-stats 'avg,min,med,max,p(90),p(95),p(99)' \
            --out "csv=$out/$name/samples.csv" "$script" >log.txt 2>&1
        echo $? >exit.txt
    ) &
done
wait
for target in "$@"; do
    name=${target%%=*}
    # The first three columns are the metric, the time and the value; what comes after them can hold anything.
    [ -e "$out/$name/samples.csv" ] && grep -E '^http_req_(duration|failed),' "$out/$name/samples.csv" | cut -d, -f1-3 >"$out/$name/samples.txt"
    rm -f "$out/$name/samples.csv"
done
echo "-----BEGIN RESULTS-----"
tar -C "$out" -czf - . | base64
echo "-----END RESULTS-----"
