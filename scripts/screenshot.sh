#!/usr/bin/env bash
# docs/status.png: the page of `erlmcp-shm serve` for a store that a node publishes, as Chromium shows it.
# Wants `make build`, and chromium.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=$PWD
dir=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$dir"' EXIT

# Forty pages and a few tools; one resource that changes 50 times a second.
cat >"$dir/publish.escript" <<'EOF'
#!/usr/bin/env escript
main([Path]) ->
    {ok, _} = erlmcp_shm_exporter:start_link(#{path => Path}),
    Resource = fun(Key, Data) ->
        ok = erlmcp_shm_exporter:export_resource(list_to_binary(Key), Data, #{mime_type => <<"text/plain">>})
    end,
    [Resource(io_lib:format("file:///docs/page-~2..0b.txt", [N]), binary:copy(<<"text ">>, N * 37 rem 400))
     || N <- lists:seq(1, 40)],
    [ok = erlmcp_shm_exporter:export_tool_schema(Name, #{type => <<"object">>}, #{})
     || Name <- [<<"add">>, <<"search">>, <<"render">>]],
    tick(Resource).

tick(Resource) ->
    Resource("clock:now", list_to_binary(calendar:system_time_to_rfc3339(os:system_time(second)))),
    timer:sleep(20),
    tick(Resource).
EOF
ERL_LIBS=$root/_build/default/lib escript "$dir/publish.escript" "$dir/erlmcp_export.bin" &

cd "$dir"
"$root/target/release/erlmcp-shm" serve erlmcp_export.bin --listen 127.0.0.1:0 2>"$dir/said" &
until [[ -s $dir/said ]]; do sleep 0.1; done
url=$(sed -n 's|.* at \(http://[^ ]*\) and .*|\1|p' "$dir/said")

# For rates there must be something to compare with, and someone to ask.
for _ in 1 2 3; do sleep 2 && curl -sS -o /dev/null "$url?sort=newest"; done
chromium --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --hide-scrollbars \
  --user-data-dir="$dir/profile" --window-size=1000,760 --screenshot="$root/docs/status.png" "$url?sort=newest" \
  2>"$dir/chromium.log" || { cat "$dir/chromium.log" >&2; exit 1; }
