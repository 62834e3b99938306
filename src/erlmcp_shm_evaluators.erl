%% @private
%% The functions of one server's resources, under way: each is called in a process of its own, for a while at most, and a
%% few at a time. Called by the bridge's process only, which is linked to them.
%%
%% Of each resource there is one at a time, so that a slow answer cannot replace a later one: what is asked for meanwhile
%% begins when that has ended.
-module(erlmcp_shm_evaluators).

-export([new/0, add/2, forget/2, is_idle/1, is_under_way/2, is_waiting/2, start/3, late/3, ended/2, kill/1]).
-export([evaluate/2]).

-export_type([evaluators/0, outcome/0]).

-type item() :: erlmcp_shm_erlmcp:item().
-type entry() :: erlmcp_shm_erlmcp:entry().
-type outcome() :: {ok, Data :: binary(), Type :: binary() | undefined} | {error, term()}.

-record(evaluators, {
    %% In the order in which they came; those that were forgotten meanwhile are in it still, and not in `waiting'.
    queue = queue:new() :: queue:queue(item()),
    waiting = #{} :: #{item() => []},
    running = #{} :: #{pid() => {item(), entry(), Timer :: reference()}},
    %% Of those that run, whether they were asked for once more.
    again = #{} :: #{item() => boolean()}
}).

-opaque evaluators() :: #evaluators{}.

-define(MOST, 8).

-spec new() -> evaluators().
new() ->
    #evaluators{}.

%% @doc Once more, if it runs; and once, if it waits.
-spec add(item(), evaluators()) -> evaluators().
add(Item, #evaluators{queue = Queue, waiting = Waiting, again = Again} = E) ->
    case {Waiting, Again} of
        {#{Item := _}, _} -> E;
        {_, #{Item := _}} -> E#evaluators{again = Again#{Item := true}};
        _ -> E#evaluators{queue = queue:in(Item, Queue), waiting = Waiting#{Item => []}}
    end.

%% @doc Not any more. One that runs goes on.
-spec forget(item(), evaluators()) -> evaluators().
forget(Item, #evaluators{waiting = Waiting, again = Again} = E) ->
    Once =
        case Again of
            #{Item := _} -> Again#{Item := false};
            _ -> Again
        end,
    E#evaluators{waiting = maps:remove(Item, Waiting), again = Once}.

-spec is_idle(evaluators()) -> boolean().
is_idle(#evaluators{waiting = Waiting, running = Running}) ->
    map_size(Waiting) =:= 0 andalso map_size(Running) =:= 0.

-spec is_under_way(item(), evaluators()) -> boolean().
is_under_way(Item, #evaluators{waiting = Waiting, again = Again}) ->
    is_map_key(Item, Waiting) orelse is_map_key(Item, Again).

%% @doc Whether it will be evaluated, and has not begun.
-spec is_waiting(item(), evaluators()) -> boolean().
is_waiting(Item, #evaluators{waiting = Waiting}) ->
    is_map_key(Item, Waiting).

%% @doc As many as may run. What they are is looked up as they begin; `TimeUp' says what the caller gets, with the process,
%% as the message of a timer.
-spec start(#{item() => entry()}, {Ms :: pos_integer(), TimeUp :: fun((pid()) -> term())}, evaluators()) -> evaluators().
start(_, _, #evaluators{running = Running} = E) when map_size(Running) >= ?MOST ->
    E;
start(Known, {Ms, TimeUp} = Limit, #evaluators{queue = Queue, waiting = Waiting, running = Running, again = Again} = E) ->
    case queue:out(Queue) of
        {empty, _} ->
            E;
        {{value, Item}, Left} when is_map_key(Item, Waiting) ->
            Entry = maps:get(Item, Known),
            Pid = spawn_link(?MODULE, evaluate, [Item, Entry]),
            Timer = erlang:start_timer(Ms, self(), TimeUp(Pid)),
            start(Known, Limit, E#evaluators{
                queue = Left,
                waiting = maps:remove(Item, Waiting),
                running = Running#{Pid => {Item, Entry, Timer}},
                again = Again#{Item => false}
            });
        {_, Left} ->
            start(Known, Limit, E#evaluators{queue = Left})
    end.

%% @private
%% Its answer is the reason of its end, so that there is one way to hear of either.
-spec evaluate(item(), entry()) -> no_return().
evaluate({resource, Uri}, Entry) ->
    Content =
        try
            erlmcp_shm_erlmcp:content(Entry, Uri)
        catch
            Class:Reason -> {error, {Class, Reason}}
        end,
    exit({evaluated, Content}).

%% @doc One has had its time.
-spec late(reference(), pid(), evaluators()) -> ok.
late(Timer, Pid, #evaluators{running = Running}) ->
    case Running of
        #{Pid := {_, _, Timer}} -> true = exit(Pid, kill);
        _ -> true
    end,
    ok.

%% @doc What a process that ended had found.
-spec ended({pid(), Reason :: term()}, evaluators()) -> {item(), entry(), outcome(), evaluators()} | error.
ended({Pid, Reason}, #evaluators{running = Running, again = Again} = E) ->
    case maps:take(Pid, Running) of
        {{Item, Entry, Timer}, Left} ->
            {Once, Others} = maps:take(Item, Again),
            Ended = E#evaluators{running = Left, again = Others},
            Next =
                case Once of
                    true -> add(Item, Ended);
                    false -> Ended
                end,
            {Item, Entry, outcome(Reason, erlang:cancel_timer(Timer)), Next};
        error ->
            error
    end.

outcome({evaluated, Content}, _) -> Content;
outcome(killed, false) -> {error, timeout};
outcome(Reason, _) -> {error, Reason}.

-spec kill(evaluators()) -> ok.
kill(#evaluators{running = Running}) ->
    _ = [exit(Pid, kill) || Pid <- maps:keys(Running)],
    ok.
