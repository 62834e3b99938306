%% @doc Figures for monitoring: of the gateway, of the shared memory, and of the clients that read from it.
%%
%% A client's lookups in shared memory leave no trace there. So clients report, as parameters of the notification
%% `notifications/erlmcp/client_metrics', what they have counted since they started:
%%
%% ```
%% {"reads_l1": 990, "reads_l2": 9, "reads_missed": 1,
%%  "latency_count": 1000, "latency_sum_ns": 80000, "latency_compliant": 999,
%%  "latency_buckets": [[63, 900], [130, 99], [1100000, 1]]}
%% '''
%%
%% A bucket says how many reads took up to so many nanoseconds, and longer than the bucket before says. The last
%% report of each session counts, for as long as the session's process lives. One that is not as above is
%% ignored: it comes from outside. What else it may say is not looked at.
-module(erlmcp_shm_metrics).

-behaviour(gen_server).

-export([start_link/0, client_report/2, claude_flow/0, prometheus/0, samples/0, families/0]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([claude_flow_metrics/0, family/0]).

-type claude_flow_metrics() :: #{
    transport_type := erlmcp_shm_transport:type() | none,
    transport_health := erlmcp_shm_health:status(),
    %% Those that this node cannot start, and why.
    transports_unavailable := [{erlmcp_shm_transport:type(), erlmcp_shm_transport:lacking()}],
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

-type family() :: {
    Name :: binary(),
    counter | gauge | summary,
    Help :: binary(),
    %% What follows the name is "_sum" and "_count" in a summary.
    [{Suffix :: binary(), [{Label :: atom(), Value :: atom()}], number() | nan}]
}.

-define(COUNTS, [
    reads_l1, reads_l2, reads_missed, latency_count, latency_sum_ns, latency_compliant
]).
%% What a client that counts with 64 bits stays below, and one whose clock has a precision of a hundredth.
-define(MAX_COUNT, (1 bsl 64)).
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
    claude_flow(clients(), shm(), erlmcp_shm_route:all()).

claude_flow(#{l1 := L1, l2 := L2, miss := Miss, p50 := P50, p99 := P99} = Clients, Shm, Routes) ->
    {Tried, Found} = erlmcp_shm_route:failovers(),
    (active(Routes))#{
        active_connections => lists:sum([erlmcp_shm_managed:peers(Route) || Route <- Routes]),
        cache_hit_rate_l1 => L1,
        cache_hit_rate_l2 => L2,
        cache_miss_rate => Miss,
        latency_p50_us => microseconds(P50),
        latency_p99_us => microseconds(P99),
        latency_p50_ns => P50,
        latency_p99_ns => P99,
        sona_compliance_pct => maps:get(compliance_pct, Clients),
        transports_unavailable => [{Type, Lacks} || #{type := Type, lacks := Lacks} <- Routes, Lacks =/= none],
        failover_count => Tried,
        failover_success_rate => ratio(Found, Tried, 1.0),
        shm_size_bytes => maps:get(shm_size_bytes, Shm, 0),
        shm_entries => maps:get(shm_entries, Shm, 0),
        shm_fragmentation => maps:get(shm_fragmentation, Shm, 0.0),
        reporting_clients => maps:get(count, Clients)
    }.

active([#{type := Type, status := Status, lacks := none} | _]) -> #{transport_type => Type, transport_health => Status};
active(_) -> #{transport_type => none, transport_health => unhealthy}.

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
    [L1, L2, Missed, Timed, SumNs, Compliant] = [Sum(Key) || Key <- ?COUNTS],
    Reads = L1 + L2 + Missed,
    Buckets = merged([Bucket || #{buckets := Of} <- Reports, Bucket <- Of]),
    #{
        count => length(Reports),
        l1 => ratio(L1, Reads, 0.0),
        l2 => ratio(L2, Reads, 0.0),
        miss => ratio(Missed, Reads, 0.0),
        %% Two divisions rather than one and a rounding.
        compliance => ratio(Compliant, Timed, 0.0),
        compliance_pct => ratio(100 * Compliant, Timed, 0.0),
        sum_ns => SumNs,
        timed => Timed,
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

%% @doc The text format, version 0.0.4. What nothing is known of, such as shared memory where there is none, is
%% left out.
-spec prometheus() -> iodata().
prometheus() ->
    [text(Family) || Family <- samples()].

%% @doc The same as terms.
-spec samples() -> [family()].
samples() ->
    {Clients, Shm, Routes} = {clients(), shm(), erlmcp_shm_route:all()},
    Now = #{clients => Clients, shm => Shm, routes => Routes, metrics => claude_flow(Clients, Shm, Routes)},
    All = [{name(Short), Type, Help, Samples(Now)} || {Short, Type, Help, Samples} <- table()],
    [Family || {_, _, _, [_ | _]} = Family <- All].

%% @doc Names and types of all there may be, in the order of the text.
-spec families() -> [{Name :: binary(), counter | gauge | summary}].
families() ->
    [{name(Name), Type} || {Name, Type, _, _} <- table()].

name(Short) ->
    <<"erlmcp_claude_flow_", Short/binary>>.

%% The one list: names, types, help, and where the samples come from.
table() ->
    [
        {<<"cache_hit_rate">>, gauge, <<"Share of all reads that this cache answered.">>, fun hit_rates/1},
        {<<"cache_miss_rate">>, gauge, <<"Share of all reads that no cache answered.">>, metric(cache_miss_rate)},
        {<<"latency_seconds">>, summary, <<"Time to the answer of a read.">>, fun latency/1},
        {<<"sona_compliance_ratio">>, gauge, <<"Share of answered reads that took less than 50 microseconds.">>,
            fun compliance/1},
        {<<"failover_total">>, counter, <<"Times that another transport had to take over.">>, metric(failover_count)},
        {<<"failover_success_ratio">>, gauge, <<"Share of failovers that worked, 1 before the first.">>,
            metric(failover_success_rate)},
        {<<"active_connections">>, gauge, <<"Connections that stand.">>, metric(active_connections)},
        {<<"transport_health">>, gauge, <<"1 healthy, 0.5 degraded, 0 unhealthy.">>,
            by_type(fun lists:max/1, fun(#{status := Status}) -> health(Status) end)},
        {<<"circuit_breaker_state">>, gauge, <<"0 closed, 1 half-open, 2 open.">>,
            by_type(fun lists:min/1, fun breaker/1)},
        {<<"shm_up">>, gauge, <<"1 if there is shared memory to read, 0 if not.">>, fun shm_up/1},
        {<<"shm_size_bytes">>, gauge, <<"Size of the shared memory file.">>, shm(shm_size_bytes)},
        {<<"shm_entries">>, gauge, <<"Live entries in shared memory.">>, shm(shm_entries)},
        {<<"shm_fragmentation_ratio">>, gauge, <<"Dead bytes over all bytes of records.">>, shm(shm_fragmentation)},
        {<<"shm_fill_ratio">>, gauge, <<"How much of what it can hold the store holds.">>, shm(shm_fill_ratio)},
        {<<"shm_generation">>, gauge, <<"Number of the file's generation.">>, shm(shm_generation)},
        {<<"shm_heartbeat_age_seconds">>, gauge, <<"Time since the writer's last sign of life.">>,
            shm(shm_heartbeat_age_seconds)},
        {<<"shm_puts_total">>, counter, <<"Puts since the store began.">>, shm(shm_puts_total)},
        {<<"shm_deletes_total">>, counter, <<"Deletes of present keys since the store began.">>,
            shm(shm_deletes_total)},
        {<<"shm_rollovers_total">>, counter,
            <<"Generations made since the store began, the first one not counted.">>, shm(shm_rollovers_total)}
    ].

hit_rates(#{metrics := #{cache_hit_rate_l1 := L1, cache_hit_rate_l2 := L2}}) ->
    [{<<>>, [{cache, l1}], L1}, {<<>>, [{cache, l2}], L2}].

compliance(#{clients := #{compliance := Share}}) ->
    [{<<>>, [], Share}].

metric(Key) ->
    fun(#{metrics := Metrics}) -> [{<<>>, [], maps:get(Key, Metrics)}] end.

shm_up(#{shm := Shm}) when map_size(Shm) =:= 0 -> [{<<>>, [], 0}];
shm_up(_) -> [{<<>>, [], 1}].

shm(Key) ->
    fun
        (#{shm := #{Key := Value}}) -> [{<<>>, [], Value}];
        (_) -> []
    end.

latency(#{clients := #{p50 := P50, p99 := P99, sum_ns := Sum, timed := Timed}}) ->
    %% Of nothing there are no quantiles.
    Quantile =
        case Timed of
            0 -> fun(_) -> nan end;
            _ -> fun(Ns) -> Ns / 1.0e9 end
        end,
    [
        {<<>>, [{quantile, '0.5'}], Quantile(P50)},
        {<<>>, [{quantile, '0.99'}], Quantile(P99)},
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

text({Name, Type, Help, Samples}) ->
    [
        ["# HELP ", Name, $\s, Help, $\n, "# TYPE ", Name, $\s, atom_to_binary(Type), $\n]
        | [[Name, Suffix, labels(Labels), $\s, number(Value), $\n] || {Suffix, Labels, Value} <- Samples]
    ].

labels([]) -> [];
labels([{Label, Value}]) -> io_lib:format("{~s=\"~s\"}", [Label, Value]).

number(nan) -> <<"NaN">>;
number(N) when is_integer(N) -> integer_to_binary(N);
number(F) -> float_to_binary(F, [short]).

%%% The process that knows which sessions live

%% @private
-spec init([]) -> {ok, #{}}.
init([]) ->
    _ = process_flag(trap_exit, true),
    ?MODULE = ets:new(?MODULE, [named_table, protected, {read_concurrency, true}]),
    ok = erlmcp_shm_prometheus:register(),
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

%% @private
-spec terminate(term(), #{}) -> ok.
terminate(_Reason, _State) ->
    erlmcp_shm_prometheus:deregister().
