%% @doc Publishes MCP resources, tool schemas, prompts and capabilities into shared memory.
%%
%% An export runs in the caller's process, straight through the NIF, and is visible to every reader on
%% the host when it returns. The process of this module is on no such path: it opens the file,
%% keeps the heartbeat by which readers tell a live writer from a dead one, and wakes readers that
%% wait for a change. If it crashes, its next incarnation adopts the open file: nothing is lost,
%% and exports in between are told `not_started'.
%%
%% In the server that a client starts (`-s erlmcp_shm stdio') the file is most often another node's, and this one only reads
%% it. It becomes the file's writer when something is exported in it, if nobody else is: else that export is `locked'.
%%
%% A term that JSON cannot say is `{error, {not_json, Where}}', an argument of the wrong type is
%% `{error, {badarg, What}}'; neither harms the caller or what is published.
-module(erlmcp_shm_exporter).

-behaviour(gen_server).

-include_lib("kernel/include/logger.hrl").

-export([
    start_link/1,
    start_reading/1,
    child_spec/1,
    export_resource/3,
    export_tool_schema/3,
    export_prompt/3,
    export_capability/3,
    export_batch/1,
    invalidate/2,
    lookup/2,
    info/0,
    metrics/0,
    flush/0
]).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2, terminate/2]).

-export_type([options/0, error/0]).

-type options() :: #{
    path => file:filename_all(),
    shm_path => file:filename_all(),
    size => pos_integer(),
    max_size => pos_integer(),
    flush_interval => non_neg_integer(),
    enabled => boolean(),
    mode => non_neg_integer(),
    recover => keep | clear,
    heartbeat_interval => pos_integer(),
    on_locked => stop | {wait, Ms :: non_neg_integer()}
}.

-type error() :: {error, not_started | erlmcp_shm_nif:reason()}.

-record(state, {
    %% None while the file is read.
    writer :: erlmcp_shm_nif:writer() | none,
    config :: erlmcp_shm_config:exporter(),
    troubles = #{} :: #{open | heartbeat | build => term()}
}).

%%% Starting

%% @doc Starts the node's exporter. Options that are wrong are refused by name, as
%% `{bad_config, [shared_memory, Key], Value}'; a file that cannot be made is `{failed_to_create_shm, Reason}'.
-spec start_link(options()) -> {ok, pid()} | ignore | {error, term()}.
start_link(Options) ->
    start(write, Options).

%% @private
%% The same, but the file is read until something is exported. An export does not wait for the lock, as a start may.
-spec start_reading(options()) -> {ok, pid()} | ignore | {error, term()}.
start_reading(Options) ->
    start(read, Options#{on_locked => stop}).

start(Role, Options) ->
    case erlmcp_shm_config:exporter(Options) of
        {ok, #{enabled := false}} -> ignore;
        {ok, Config} -> gen_server:start_link({local, ?MODULE}, ?MODULE, {Role, Config}, []);
        {error, _} = Error -> Error
    end.

%% @doc For a supervisor of your own: in Elixir, `{:erlmcp_shm_exporter, %{path: "..."}}', or the bare module name.
-spec child_spec(options() | []) -> supervisor:child_spec().
child_spec([]) ->
    child_spec(#{});
child_spec(Options) ->
    #{id => ?MODULE, start => {?MODULE, start_link, [Options]}}.

%%% Publishing

%% @doc Publishes the content of a resource, byte for byte.
-spec export_resource(Uri :: binary(), Content :: binary(), Metadata :: erlmcp_shm_nif:json()) ->
    ok | error().
export_resource(Uri, Content, Metadata) ->
    put(resource, Uri, Content, Metadata).

%% @doc Publishes a tool's input schema.
-spec export_tool_schema(
    Name :: binary(), Schema :: erlmcp_shm_nif:json(), Metadata :: erlmcp_shm_nif:json()
) -> ok | error().
export_tool_schema(Name, Schema, Metadata) ->
    put(tool, Name, Schema, Metadata).

%% @doc Publishes a prompt: its `arguments' and its `messages'.
-spec export_prompt(
    Name :: binary(), Prompt :: erlmcp_shm_nif:json(), Metadata :: erlmcp_shm_nif:json()
) -> ok | error().
export_prompt(Name, Prompt, Metadata) ->
    put(prompt, Name, Prompt, Metadata).

%% @doc Publishes `server_info', `instructions' or a capability of the server, such as `tools'.
-spec export_capability(
    Name :: binary(), Value :: erlmcp_shm_nif:json(), Metadata :: erlmcp_shm_nif:json()
) -> ok | error().
export_capability(Name, Value, Metadata) ->
    put(capability, Name, Value, Metadata).

%% @doc Publishes and withdraws many entries: all are checked before the first is written, each appears
%% atomically and in order, and readers are woken once. `Index' counts from 0.
-spec export_batch([erlmcp_shm_nif:batch_item()]) ->
    ok | {error, {Index :: non_neg_integer(), erlmcp_shm_nif:reason()}} | error().
export_batch(Items) ->
    case writer() of
        {error, _} = Error ->
            Error;
        {Writer, Config} ->
            Result = erlmcp_shm_nif:put_batch(erlmcp_shm_writer:own(Writer), Items),
            published(Result, Writer, Config)
    end.

%% @doc Withdraws an entry. That there is none is fine.
-spec invalidate(erlmcp_shm_nif:kind(), Key :: binary()) -> ok | error().
invalidate(Kind, Key) ->
    case writer() of
        {error, _} = Error ->
            Error;
        {Writer, Config} ->
            Result =
                case erlmcp_shm_nif:delete(Writer, Kind, Key) of
                    busy -> erlmcp_shm_nif:delete_dirty(erlmcp_shm_writer:own(Writer), Kind, Key);
                    Done -> Done
                end,
            published(Result, Writer, Config)
    end.

%% @doc Wakes waiting readers now rather than at the next `flush_interval'.
-spec flush() -> ok | error().
flush() ->
    case is_started() andalso {erlmcp_shm_writer:held(), erlmcp_shm_store:is_read()} of
        {{Writer, _}, false} -> erlmcp_shm_nif:flush(Writer);
        {undefined, true} -> ok;
        _ -> {error, not_started}
    end.

%% A put does not queue for the writer on a normal scheduler: held up, it goes to a dirty one. (Spelled out
%% here and above, without funs: a put is short enough for them to count.)
put(Kind, Key, Data, Metadata) ->
    case writer() of
        {error, _} = Error ->
            Error;
        {Writer, Config} ->
            Result =
                case erlmcp_shm_nif:put(Writer, Kind, Key, Data, Metadata) of
                    busy ->
                        Own = erlmcp_shm_writer:own(Writer),
                        erlmcp_shm_nif:put_dirty(Own, Kind, Key, Data, Metadata);
                    Done ->
                        Done
                end,
            published(Result, Writer, Config)
    end.

%% With `flush_interval => 0' the caller wakes the readers, whatever the result: a batch that ran out
%% of space has published its first entries.
published(Result, Writer, #{flush_interval := 0}) ->
    _ = erlmcp_shm_nif:flush(Writer),
    Result;
published(Result, _Writer, _Config) ->
    Result.

%% A writer may be held while no exporter runs, see erlmcp_shm_writer; it has no heartbeat then and must
%% not take exports that readers would distrust. And an exporter may be registered that has no
%% writer yet, or no more.
writer() ->
    case is_started() of
        true ->
            case erlmcp_shm_writer:held() of
                {_, _} = Held -> Held;
                undefined -> first_export()
            end;
        false ->
            {error, not_started}
    end.

%% Whoever exports first asks the exporter to become the writer.
first_export() ->
    try erlmcp_shm_store:is_read() andalso gen_server:call(?MODULE, write, infinity) of
        {error, _} = Error -> Error;
        _ -> held()
    catch
        exit:_ -> {error, not_started}
    end.

held() ->
    case erlmcp_shm_writer:held() of
        {_, _} = Held -> Held;
        undefined -> {error, not_started}
    end.

is_started() ->
    whereis(?MODULE) =/= undefined.

%%% Asking

%% @doc What is published under a key. Values of up to 64 KiB are copied; a larger one refers to the mapped
%% file, whose pages stay for as long as the binary lives (`pinned_bytes' of {@link info/0}).
-spec lookup(erlmcp_shm_nif:kind(), Key :: binary()) ->
    erlmcp_shm_nif:entry() | {error, not_found} | error().
lookup(Kind, Key) ->
    case is_started() of
        true -> erlmcp_shm_store:get(Kind, Key);
        false -> {error, not_started}
    end.

%% @doc The options in force and everything the store knows about itself; `size' is that of the file now.
-spec info() -> #{atom() => term()} | error().
info() ->
    with_stats(fun(Config, Stats) -> maps:merge(Config, Stats) end).

%% @doc Figures for monitoring, named as in Prometheus. Totals go on across restarts.
-spec metrics() -> #{atom() => number()} | error().
metrics() ->
    with_stats(fun(_Config, Stats) ->
        Figures = maps:from_list([{Name, maps:get(Key, Stats)} || {Name, Key} <- figures()]),
        case Stats of
            #{heartbeat_age_ms := undefined} -> Figures;
            #{heartbeat_age_ms := Age} -> Figures#{shm_heartbeat_age_seconds => Age / 1000}
        end
    end).

figures() ->
    [
        {shm_size_bytes, size},
        {shm_entries, entries},
        {shm_fragmentation, fragmentation},
        {shm_fill_ratio, fill},
        {shm_generation, generation},
        {shm_puts_total, puts},
        {shm_deletes_total, deletes},
        {shm_rollovers_total, rollovers}
    ].

with_stats(Fun) ->
    case is_started() andalso erlmcp_shm_store:stats() of
        {ok, Config, Stats} -> Fun(Config, Stats);
        {error, _} = Error -> Error;
        false -> {error, not_started}
    end.

%%% The process

%% @private
-spec init({write | read, erlmcp_shm_config:exporter()}) ->
    {ok, #state{}} | {stop, {failed_to_create_shm, erlmcp_shm_nif:reason()}}.
init({Role, #{path := Path} = Config}) ->
    %% So that terminate/2 is called when the supervisor, or whoever else started us, ends.
    _ = process_flag(trap_exit, true),
    case begin_to(Role, #state{writer = none, config = Config}) of
        {ok, _} = Ok ->
            Ok;
        {error, Reason} ->
            %% What is given to whoever started us does not name the file.
            ?LOG_ERROR(#{what => open, path => Path, trouble => Reason}),
            {stop, {failed_to_create_shm, Reason}}
    end.

begin_to(write, #state{config = Config} = State) ->
    case erlmcp_shm_writer:acquire(Config) of
        {ok, Writer} ->
            tell_what_was_found(Writer, Config),
            after_interval(flush, Config),
            _ = self() ! heartbeat,
            {ok, State#state{writer = Writer}};
        {error, _} = Error ->
            Error
    end;
begin_to(read, #state{config = Config} = State) ->
    %% An exporter that crashed may have been the writer: then so are we.
    case erlmcp_shm_writer:held() of
        {_, Config} ->
            case begin_to(write, State) of
                {ok, _} = Ok -> Ok;
                {error, _} -> read(State)
            end;
        _ ->
            read(State)
    end.

read(#state{config = Config} = State) ->
    ok = erlmcp_shm_store:release(),
    case erlmcp_shm_store:read(Config) of
        ok -> {ok, State};
        {error, _} = Error -> Error
    end.

%% @private
-spec handle_call(term(), gen_server:from(), #state{}) -> {reply, ok | {error, term()}, #state{}}.
handle_call(write, _From, #state{writer = none} = State) ->
    case begin_to(write, State) of
        {ok, Writing} -> {reply, ok, observe(open, ok, Writing)};
        {error, _} = Error -> {reply, Error, observe(open, Error, State)}
    end;
handle_call(write, _From, State) ->
    {reply, ok, State};
handle_call(_Request, _From, State) ->
    {reply, {error, unknown_call}, State}.

%% @private
-spec handle_cast(term(), #state{}) -> {noreply, #state{}}.
handle_cast(_Message, State) ->
    {noreply, State}.

%% @private
-spec handle_info(term(), #state{}) -> {noreply, #state{}} | {stop, term(), #state{}}.
handle_info(heartbeat, State) ->
    unless_lost(fun heartbeat/1, State);
handle_info(flush, State) ->
    unless_lost(fun flush/1, State);
%% A link that is not the parent's (whose end gen_server itself sees to) ends us as it would end any
%% process, normal exits excepted.
handle_info({'EXIT', _Linked, Reason}, State) when Reason =/= normal ->
    {stop, Reason, State};
handle_info(_Message, State) ->
    {noreply, State}.

%% @private
%% An orderly end lets go of the file. After anything else the writer stays for the next start.
-spec terminate(term(), #state{}) -> ok.
terminate(normal, _State) -> erlmcp_shm_store:release();
terminate(shutdown, _State) -> erlmcp_shm_store:release();
terminate({shutdown, _}, _State) -> erlmcp_shm_store:release();
terminate(_Crash, _State) -> ok.

%% `badarg' is a handle of a library that was purged. The reason does not name it: the supervisor holds the reason
%% while it starts the next exporter, and would keep the very writer alive that this one waits for.
unless_lost(Work, State) ->
    try
        Work(State)
    catch
        error:badarg -> {stop, {writer, lost}, State}
    end.

flush(#state{writer = Writer, config = Config} = State) ->
    _ = erlmcp_shm_nif:flush(Writer),
    after_interval(flush, Config),
    {noreply, State}.

heartbeat(#state{writer = Writer, config = Config} = State) ->
    case erlmcp_shm_nif:heartbeat(erlmcp_shm_writer:own(Writer)) of
        {error, Dead} when Dead =:= closed; Dead =:= failed ->
            %% No heartbeat will mend this writer; a restart opens another, see erlmcp_shm_writer.
            {stop, {writer, Dead}, State};
        {error, corrupt} = Result ->
            %% Truncated: to look at figures that are gone would end the node.
            after_interval(heartbeat, Config),
            {noreply, observe(heartbeat, Result, State)};
        Result ->
            after_interval(heartbeat, Config),
            {noreply, observe(build, last_build(Writer), observe(heartbeat, Result, State))}
    end.

%% What an operator should know of the file that was there, and would otherwise find out by chance.
tell_what_was_found(Writer, #{path := Path, size := Wanted}) ->
    case erlmcp_shm_nif:stats(Writer) of
        {ok, #{damaged_records := Damaged}} when Damaged > 0 ->
            ?LOG_WARNING(#{what => open, path => Path, trouble => {damaged_records, Damaged}});
        {ok, #{size := Size}} when Size < Wanted ->
            ?LOG_WARNING(#{what => open, path => Path, trouble => {no_room_for, Wanted}, size => Size});
        _ ->
            ok
    end.

last_build(Writer) ->
    case erlmcp_shm_nif:stats(Writer) of
        {ok, #{last_build_error := undefined}} -> ok;
        {ok, #{last_build_error := Reason}} -> {error, Reason};
        {error, _} = Error -> Error
    end.

%% Logs a trouble when it appears, changes or goes, not at every tick while it lasts.
observe(What, Result, #state{troubles = Troubles, config = #{path := Path}} = State) ->
    case {Result, Troubles} of
        {{error, Reason}, #{What := Reason}} ->
            State;
        {{error, Reason}, _} ->
            ?LOG_WARNING(#{what => What, path => Path, trouble => Reason}),
            State#state{troubles = Troubles#{What => Reason}};
        {ok, #{What := Reason}} ->
            ?LOG_NOTICE(#{what => What, path => Path, trouble => none, was => Reason}),
            State#state{troubles = maps:remove(What, Troubles)};
        {ok, _} ->
            State
    end.

after_interval(flush, #{flush_interval := 0}) ->
    ok;
after_interval(flush, #{flush_interval := Ms}) ->
    _ = erlang:send_after(Ms, self(), flush),
    ok;
after_interval(heartbeat, #{heartbeat_interval := Ms}) ->
    _ = erlang:send_after(Ms, self(), heartbeat),
    ok.
