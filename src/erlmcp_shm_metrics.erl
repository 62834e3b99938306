%% @doc Figures for monitoring: of the gateway, of the shared memory, and of the clients that read from it.
%%
%% A client's lookups in shared memory leave no trace there. So clients report, as parameters of the notification
%% `notifications/erlmcp/client_metrics', what they have counted since they started:
%%
%% ```
%% {"reads_l1": 990, "reads_l2": 9, "reads_miss": 1, "sona_compliant": 999,
%%  "latency_sum_ns": 40000, "latency_buckets": [[63, 900], [127, 99], [1048575, 1]]}
%% '''
%%
%% A bucket says how many reads took up to so many nanoseconds and longer than the bucket before says. The last
%% report of each session counts, for as long as the session's process lives. One that is not as above is
%% ignored: it comes from outside.
-module(erlmcp_shm_metrics).

-behaviour(gen_server).

-export([start_link/0, client_report/2, claude_flow/0, prometheus/0, families/0]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2]).

-export_type([claude_flow_metrics/0]).

-type claude_flow_metrics() :: #{
    transport_type := erlmcp_shm_transport:type() | none,
    transport_health := erlmcp_shm_health:status(),
    active_connections := non_neg_integer(),
    cache_hit_rate_l1 := float(),
    cache_hit_rate_l2 := float(),
    cache_miss_rate := float(),
    latency_p50_us := non_neg_integer(),
    latency_p99_us := non_neg_integer(),
    latency_p50_ns := non_neg_integer(),
    latency_p99_ns := non_neg_integer(),
    sona_compliance_pct := float(),
    failover_count := non_neg_integer(),
    failover_success_rate := float(),
    shm_size_bytes := non_neg_integer(),
    shm_entries := non_neg_integer(),
    shm_fragmentation := float(),
    reporting_clients := non_neg_integer()
}.

-define(COUNTS, [reads_l1, reads_l2, reads_miss, sona_compliant, latency_sum_ns]).
%% What a sensible client stays below.
-define(MAX_COUNT, (1 bsl 53)).
-define(MAX_BUCKETS, 4096).

%%% API

-spec start_link() -> {ok, pid()} | {error, term()}.
start_link() ->
    case gen_server:start_link({local, ?MODULE}, ?MODULE, [], []) of
        {ok, _} = Ok -> Ok;
        {error, _} = Error -> Error
    end.

%% @doc What the client of a session has counted so far.
-spec client_report(SessionPid :: pid(), map()) -> ok.
client_report(SessionPid, Params) when is_pid(SessionPid), is_map(Params) ->
    case report(Params) of
        {ok, Report} -> gen_server:cast(?MODULE, {report, SessionPid, Report});
        error -> ok
    end.

%% @doc Everything at once. What is not running has zeros.
-spec claude_flow() -> claude_flow_metrics().
claude_flow() ->
    #{l1 := L1, l2 := L2, miss := Miss, compliant := Compliant} = Clients = clients(),
    {Tried, Found} = erlmcp_shm_route:failovers(),
    Shm = shm(),
    (active(erlmcp_shm_route:all()))#{
        active_connections => connections(),
        cache_hit_rate_l1 => L1,
        cache_hit_rate_l2 => L2,
        cache_miss_rate => Miss,
        latency_p50_us => microseconds(maps:get(p50, Clients)),
        latency_p99_us => microseconds(maps:get(p99, Clients)),
        latency_p50_ns => maps:get(p50, Clients),
        latency_p99_ns => maps:get(p99, Clients),
        sona_compliance_pct => 100 * Compliant,
        failover_count => Tried,
        failover_success_rate => ratio(Found, Tried, 1.0),
        shm_size_bytes => maps:get(shm_size_bytes, Shm, 0),
        shm_entries => maps:get(shm_entries, Shm, 0),
        shm_fragmentation => maps:get(shm_fragmentation, Shm, 0.0),
        reporting_clients => maps:get(count, Clients)
    }.

active([]) -> #{transport_type => none, transport_health => unhealthy};
active([#{type := Type, status := Status} | _]) -> #{transport_type => Type, transport_health => Status}.

connections() ->
    lists:sum([erlmcp_shm_managed:peers(Route) || Route <- erlmcp_shm_route:all()]).

shm() ->
    case erlmcp_shm_exporter:metrics() of
        {error, _} -> #{};
        Figures -> Figures
    end.

%% Rounded up: a read that took 40 ns did not take none.
microseconds(Ns) ->
    (Ns + 999) div 1000.

ratio(_Part, 0, None) -> None;
ratio(Part, Whole, _None) -> Part / Whole.

%%% Reports

report(Params) ->
    Counts = [{Key, given(Key, Params, 0)} || Key <- ?COUNTS],
    Buckets = given(latency_buckets, Params, []),
    case lists:all(fun({_, N}) -> is_count(N) end, Counts) andalso are_buckets(Buckets) of
        true -> {ok, (maps:from_list(Counts))#{buckets => [{Ns, N} || [Ns, N] <- Buckets]}};
        false -> error
    end.

given(Key, Params, Default) ->
    maps:get(atom_to_binary(Key), Params, Default).

is_count(N) ->
    is_integer(N) andalso N >= 0 andalso N < ?MAX_COUNT.

are_buckets(Buckets) ->
    is_list(Buckets) andalso length(Buckets) =< ?MAX_BUCKETS andalso
        lists:all(
            fun
                ([Ns, N]) -> is_count(Ns) andalso is_count(N);
                (_) -> false
            end,
            Buckets
        ).

%% The sums over all who report. Shares are of all reads.
clients() ->
    Reports = reports(),
    Sum = fun(Key) -> lists:sum([maps:get(Key, Report) || Report <- Reports]) end,
    [L1, L2, Miss, Compliant, SumNs] = [Sum(Key) || Key <- ?COUNTS],
    Reads = L1 + L2 + Miss,
    Buckets = merged([Bucket || #{buckets := Of} <- Reports, Bucket <- Of]),
    #{
        count => length(Reports),
        l1 => ratio(L1, Reads, 0.0),
        l2 => ratio(L2, Reads, 0.0),
        miss => ratio(Miss, Reads, 0.0),
        compliant => ratio(Compliant, Reads, 0.0),
        sum_ns => SumNs,
        timed => lists:sum([N || {_, N} <- Buckets]),
        p50 => percentile(50, Buckets),
        p99 => percentile(99, Buckets)
    }.

reports() ->
    try
        [Report || {_Session, Report} <- ets:tab2list(?MODULE)]
    catch
        error:badarg -> []
    end.

merged(Buckets) ->
    lists:sort(
        maps:to_list(
            lists:foldl(fun({Ns, N}, Sums) -> maps:update_with(Ns, fun(M) -> M + N end, N, Sums) end, #{}, Buckets)
        )
    ).

%% What a read of this rank took at most; 0 if there was none.
percentile(P, Buckets) ->
    Total = lists:sum([N || {_, N} <- Buckets]),
    ranked(max(1, round(Total * P / 100)), Buckets).

ranked(_Rank, []) -> 0;
ranked(Rank, [{Ns, N} | _]) when Rank =< N -> Ns;
ranked(Rank, [{_, N} | Slower]) -> ranked(Rank - N, Slower).

%%% Prometheus

%% @doc All of them, in the text format.
-spec prometheus() -> iodata().
prometheus() ->
    Now = #{clients => clients(), shm => shm(), routes => erlmcp_shm_route:all(), metrics => claude_flow()},
    [family(Family, Now) || Family <- table()].

%% @doc Names and types of what there is.
-spec families() -> [{Name :: binary(), counter | gauge | summary}].
families() ->
    [{<<"erlmcp_claude_flow_", Name/binary>>, Type} || {Name, Type, _, _} <- table()].

table() ->
    [
        {<<"cache_hit_rate">>, gauge, <<"Share of all reads that a tier answered">>, fun(#{metrics := M}) ->
            [
                {<<>>, [{cache, l1}], maps:get(cache_hit_rate_l1, M)},
                {<<>>, [{cache, l2}], maps:get(cache_hit_rate_l2, M)}
            ]
        end},
        {<<"cache_miss_rate">>, gauge, <<"Share of all reads that went to the server">>, metric(cache_miss_rate)},
        {<<"latency_seconds">>, summary, <<"What reads took, by the clients' clocks">>, fun latency/1},
        {<<"sona_compliance_ratio">>, gauge, <<"Share of all reads that took less than 50 us">>, fun(#{clients := C}) ->
            [{<<>>, [], maps:get(compliant, C)}]
        end},
        {<<"failover_total">>, counter, <<"Messages that went on from the transport that should have had them">>,
            metric(failover_count)},
        {<<"failover_success_ratio">>, gauge, <<"Share of those that another transport took">>,
            metric(failover_success_rate)},
        {<<"transport_health">>, gauge, <<"1 healthy, 0.5 degraded, 0 unhealthy">>,
            by_type(fun lists:max/1, fun(#{status := Status}) -> health(Status) end)},
        {<<"circuit_breaker_state">>, gauge, <<"0 closed, 1 half-open, 2 open">>,
            by_type(fun lists:min/1, fun breaker/1)},
        {<<"active_connections">>, gauge, <<"Peers of all transports">>, metric(active_connections)},
        {<<"shm_size_bytes">>, gauge, <<"Size of the shared file">>, shm(shm_size_bytes)},
        {<<"shm_entries">>, gauge, <<"Entries in it">>, shm(shm_entries)},
        {<<"shm_fragmentation_ratio">>, gauge, <<"Share of its log that is dead">>, shm(shm_fragmentation)},
        {<<"shm_fill_ratio">>, gauge, <<"Share of the room for live entries that is taken">>, shm(shm_fill_ratio)},
        {<<"shm_generation">>, gauge, <<"Generation of the file">>, shm(shm_generation)},
        {<<"shm_heartbeat_age_seconds">>, gauge, <<"Time since the writer's last heartbeat">>,
            shm(shm_heartbeat_age_seconds)},
        {<<"shm_puts_total">>, counter, <<"Entries published">>, shm(shm_puts_total)},
        {<<"shm_deletes_total">>, counter, <<"Entries withdrawn">>, shm(shm_deletes_total)},
        {<<"shm_rollovers_total">>, counter, <<"Generations built">>, shm(shm_rollovers_total)}
    ].

metric(Key) ->
    fun(#{metrics := Metrics}) -> [{<<>>, [], maps:get(Key, Metrics)}] end.

shm(Key) ->
    fun
        (#{shm := #{Key := Value}}) -> [{<<>>, [], Value}];
        (_) -> []
    end.

latency(#{clients := #{timed := 0}}) ->
    [{<<"_sum">>, [], 0}, {<<"_count">>, [], 0}];
latency(#{clients := #{p50 := P50, p99 := P99, sum_ns := Sum, timed := Timed}}) ->
    [
        {<<>>, [{quantile, '0.5'}], P50 / 1.0e9},
        {<<>>, [{quantile, '0.99'}], P99 / 1.0e9},
        {<<"_sum">>, [], Sum / 1.0e9},
        {<<"_count">>, [], Timed}
    ].

%% Where several transports are of a type, the best of them.
by_type(Best, Value) ->
    fun(#{routes := Routes}) ->
        Types = lists:usort([Type || #{type := Type} <- Routes]),
        [
            {<<>>, [{transport, Type}], Best([Value(Route) || #{type := T} = Route <- Routes, T =:= Type])}
         || Type <- Types
        ]
    end.

health(healthy) -> 1;
health(degraded) -> 0.5;
health(unhealthy) -> 0.

breaker(#{breaker := none}) ->
    0;
breaker(#{breaker := Breaker}) ->
    case erlmcp_shm_breaker:state(Breaker) of
        closed -> 0;
        half_open -> 1;
        open -> 2
    end.

family({Short, Type, Help, Samples}, Now) ->
    Name = <<"erlmcp_claude_flow_", Short/binary>>,
    [
        ["# HELP ", Name, $\s, Help, $\n, "# TYPE ", Name, $\s, atom_to_binary(Type), $\n]
        | [[Name, Suffix, labels(Labels), $\s, number(Value), $\n] || {Suffix, Labels, Value} <- Samples(Now)]
    ].

labels([]) -> [];
labels([{Label, Value}]) -> io_lib:format("{~s=\"~s\"}", [Label, Value]).

number(N) when is_integer(N) -> integer_to_binary(N);
number(F) -> float_to_binary(F, [short]).

%%% The process that knows which sessions live

%% @private
-spec init([]) -> {ok, #{}}.
init([]) ->
    ?MODULE = ets:new(?MODULE, [named_table, protected, {read_concurrency, true}]),
    {ok, #{}}.

%% @private
-spec handle_call(term(), gen_server:from(), #{}) -> {reply, {error, unknown_call}, #{}}.
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

%% @private
-spec handle_cast(term(), #{}) -> {noreply, #{}}.
handle_cast({report, Session, Report}, State) ->
    case ets:insert_new(?MODULE, {Session, Report}) of
        true ->
            _ = monitor(process, Session),
            ok;
        false ->
            true = ets:insert(?MODULE, {Session, Report})
    end,
    {noreply, State};
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #{}) -> {noreply, #{}}.
handle_info({'DOWN', _Monitor, process, Session, _Reason}, State) ->
    true = ets:delete(?MODULE, Session),
    {noreply, State};
handle_info(_Message, State) ->
    {noreply, State}.
