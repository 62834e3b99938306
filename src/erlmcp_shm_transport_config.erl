%% @private
%% What may be said of a transport, by its type.
%%
%% Addresses are those to listen at. A `url' is another way to write `host', `port' and `path', and comes out
%% as these. Strings come out as lists of characters, secrets and origins as binaries. What has no default and was not
%% given stays away.
-module(erlmcp_shm_transport_config).

-export([check/3, option/2, tables/0]).

-define(MAX_BYTES, (1 bsl 31)).
%% The longest timer there is.
-define(MAX_MS, 16#FFFFFFFF).
-define(MANY, (1 bsl 24)).

%% @doc Throws as erlmcp_shm_check does.
-spec check(erlmcp_shm_transport:type(), term(), Path :: list()) -> map().
check(stdio, Config, Path) ->
    given(Config, keys(stdio), Path);
check(Type, Config, Path) ->
    given(addressed(Type, Config, Path), keys(Type), Path).

%% @doc An option of a transport, which may also have been started with what was never checked.
-spec option(atom(), Config :: map()) -> term().
option(Key, Config) ->
    maps:get(Key, Config, default(Key)).

%% Those that do not depend on the type.
default(host) -> "localhost";
default(port) -> 8080;
default(allowed_origins) -> local;
default(max_connections) -> 1024;
default(rate_limit) -> infinity;
default(metrics_path) -> "/metrics";
default(session_timeout) -> 600000;
default(max_message_bytes) -> 4194304;
default(max_queue_bytes) -> 8388608.

%% @doc All there is. (A `url' is none of these: it becomes three of them.)
-spec tables() -> [{Name :: atom(), [erlmcp_shm_check:row()]}].
tables() ->
    [{tls, tls_keys()} | [{Type, keys(Type)} || Type <- [websocket, http, sse, stdio]]].

given(Map, Keys, Path) ->
    maps:filter(fun(_, Value) -> Value =/= undefined end, erlmcp_shm_check:table(Map, Keys, Path, Path)).

keys(stdio) ->
    %% `user': standard input and output of the node.
    [{io_device, fun device/1, user} | message_keys(true, {1000, 1048576, 1})];
keys(websocket) ->
    listener_keys("/mcp/ws", [permessage_deflate, none], permessage_deflate) ++
        message_keys(true, {50, 32768, 5});
keys(http) ->
    [
        {method, {one_of, [post]}, post},
        %% After so long without a request a session is forgotten.
        {session_timeout, {integer, 1, ?MAX_MS}, default(session_timeout)}
    ] ++
        listener_keys("/mcp", [gzip, none], gzip) ++
        message_keys(false, {50, 32768, 5});
keys(sse) ->
    listener_keys("/mcp/sse", [gzip, none], none) ++
        message_keys(false, {50, 32768, 5}).

listener_keys(UrlPath, Compressions, Compression) ->
    [
        {host, fun host/1, default(host)},
        %% 0: any that is free.
        {port, {integer, 0, 65535}, default(port)},
        {path, fun url_path/1, UrlPath},
        {compression, {one_of, Compressions}, Compression},
        {tls, fun tls/2, false},
        {auth_token, {optional, fun text/1}, undefined},
        %% Of pages in browsers: `local' are those of this host.
        {allowed_origins, fun origins/2, default(allowed_origins)},
        {max_connections, {integer, 1, ?MANY}, default(max_connections)},
        %% Messages a second, from one address.
        {rate_limit, fun rate/1, default(rate_limit)},
        %% Of the figures for Prometheus.
        {metrics_path, fun metrics_path/1, default(metrics_path)}
    ].

message_keys(Batching, {Size, Bytes, Delay}) ->
    [
        {batching, boolean, Batching},
        {batch_config,
            {map, [
                {max_batch_size, {integer, 1, ?MANY}, Size},
                {max_batch_bytes, {integer, 1, ?MAX_BYTES}, Bytes},
                {max_batch_delay_ms, {integer, 0, ?MAX_MS}, Delay}
            ]},
            #{}},
        {max_message_bytes, {integer, 1, ?MAX_BYTES}, default(max_message_bytes)},
        %% What may wait for one peer before it counts as too slow.
        {max_queue_bytes, {integer, 1, ?MAX_BYTES}, default(max_queue_bytes)},
        %% `false': what comes in is the owner's to answer.
        {endpoint, boolean, true},
        {handler, {optional, fun handler/1}, undefined},
        {page_size, {integer, 1, ?MANY}, 200},
        {request_timeout, {integer, 1, ?MAX_MS}, 5000},
        {tool_timeout, {integer, 1, ?MAX_MS}, 60000}
    ].

tls_keys() ->
    [
        {certfile, fun erlmcp_shm_config:path/1, undefined},
        {keyfile, fun erlmcp_shm_config:path/1, undefined},
        %% With it, clients must show a certificate that it vouches for.
        {cacertfile, {optional, fun erlmcp_shm_config:path/1}, undefined},
        {password, {optional, fun characters/1}, undefined},
        {verify, {one_of, [verify_none, verify_peer]}, fun(#{cacertfile := Ca}) -> verify(Ca) end},
        {fail_if_no_peer_cert, boolean, fun(#{verify := Verify}) -> Verify =:= verify_peer end}
    ].

verify(undefined) -> verify_none;
verify(_) -> verify_peer.

%%% url

addressed(Type, #{url := Url} = Config, Path) ->
    case [Key || Key <- [host, port, path], is_map_key(Key, Config)] of
        [Twice | _] -> erlmcp_shm_check:bad_config(Path ++ [Twice], maps:get(Twice, Config));
        [] -> ok
    end,
    Tls = maps:get(tls, Config, false) =/= false,
    case address(schemes(Type, Tls), Url) of
        {ok, Address} -> maps:merge(maps:remove(url, Config), Address);
        error -> erlmcp_shm_check:bad_config(Path ++ [url], Url)
    end;
addressed(_Type, Config, _Path) ->
    Config.

%% A listener that says https and has no certificate could only fail later, with a worse message.
schemes(websocket, false) -> #{"ws" => 80};
schemes(websocket, true) -> #{"wss" => 443};
schemes(_, false) -> #{"http" => 80};
schemes(_, true) -> #{"https" => 443}.

address(Schemes, Url) ->
    try uri_string:parse(unicode:characters_to_list(Url)) of
        #{scheme := Scheme, host := [_ | _] = Host, path := UrlPath} = Parts when
            is_map_key(Scheme, Schemes), not is_map_key(userinfo, Parts), not is_map_key(query, Parts),
            not is_map_key(fragment, Parts)
        ->
            Port = maps:get(port, Parts, maps:get(Scheme, Schemes)),
            {ok, #{host => Host, port => Port, path => slash(UrlPath)}};
        _ ->
            error
    catch
        error:_ -> error
    end.

slash("") -> "/";
slash(UrlPath) -> UrlPath.

%%% Types

text(Text) ->
    try unicode:characters_to_binary(Text) of
        Binary when is_binary(Binary), Binary =/= <<>> -> {ok, Binary};
        _ -> error
    catch
        error:badarg -> error
    end.

characters(Text) ->
    case text(Text) of
        {ok, Binary} -> {ok, unicode:characters_to_list(Binary)};
        error -> error
    end.

%% A name, or an address.
host(Host) when is_tuple(Host) ->
    case inet:ntoa(Host) of
        {error, einval} -> error;
        Address -> {ok, Address}
    end;
host(Host) ->
    characters(Host).

url_path(UrlPath) ->
    case characters(UrlPath) of
        {ok, [$/ | _]} = Ok -> Ok;
        _ -> error
    end.

metrics_path(false) -> {ok, false};
metrics_path(UrlPath) -> url_path(UrlPath).

tls(false, _Path) -> false;
tls(Tls, Path) -> given(Tls, tls_keys(), Path).

origins(All, _Path) when All =:= local; All =:= any -> All;
origins(Origins, Path) when is_list(Origins), length(Origins) >= 0 ->
    [origin(Origin, Path ++ [Index]) || {Index, Origin} <- lists:zip(lists:seq(0, length(Origins) - 1), Origins)];
origins(Other, Path) ->
    erlmcp_shm_check:bad_config(Path, Other).

origin(Origin, Path) ->
    case text(Origin) of
        {ok, Text} -> Text;
        error -> erlmcp_shm_check:bad_config(Path, Origin)
    end.

handler(Handler) when is_atom(Handler), Handler =/= undefined; is_function(Handler, 2) -> {ok, Handler};
handler(_) -> error.

rate(infinity) -> {ok, infinity};
rate(Rate) when is_integer(Rate), Rate > 0 -> {ok, Rate};
rate(_) -> error.

device(Device) when is_pid(Device); is_atom(Device), Device =/= undefined -> {ok, Device};
device(_) -> error.
