%% @private
%% Hears what is asked of a server. A function that `sys:install/2' puts into the server's process is called at each
%% message and each answer there; it tells the bridge how what was named looks now.
%%
%% It runs in somebody else's process, so it
%%
%% * is an exported function, and not a fun of a module's version: loading this module anew purges no server;
%% * removes itself: it belongs to a table of the bridge's, and when that is gone, or its row is, it answers
%%   `done' at the next message. So a bridge that was killed leaves nothing behind for longer than that;
%% * fills nobody's mailbox: what the bridge has not caught up with is counted, and beyond a bound it is
%%   told once to look at everything;
%% * cannot fail: sys catches what it throws, and forgets it.
-module(erlmcp_shm_tap).

-export([table/0, open/1, install/2, close/2, remove/2, heard/1, relisting/1, event/3]).

-export_type([tap/0, table/0]).

-record(tap, {
    table :: ets:tid(),
    id :: reference(),
    bridge :: pid(),
    %% How many messages are under way, and whether the bridge was told to look at everything.
    counts :: atomics:atomics_ref(),
    %% What the message that is being handled is about.
    about = nothing :: nothing | everything | erlmcp_shm_erlmcp:item()
}).

-opaque tap() :: #tap{}.
-opaque table() :: ets:tid().

-define(UNDER_WAY, 1).
-define(TOLD, 2).
-define(MOST_UNDER_WAY, 1000).

%% @doc Belongs to the calling process, the bridge.
-spec table() -> table().
table() ->
    ets:new(?MODULE, [protected, {read_concurrency, true}]).

%% @doc Once it is installed, the bridge gets `{erlmcp_shm_tap, Id, {changed, Item, Entry | absent}}' for what is
%% changed, and `{erlmcp_shm_tap, Id, relist}' when it has to look for itself.
-spec open(table()) -> {Id :: reference(), tap()}.
open(Table) ->
    Id = make_ref(),
    true = ets:insert(Table, {Id}),
    {Id, #tap{table = Table, id = Id, bridge = self(), counts = atomics:new(2, [])}}.

%% @doc Waits until the server has time for it. One that is installed already stays.
-spec install(pid(), tap()) -> ok.
install(Server, #tap{id = Id} = Tap) ->
    sys:install(Server, {{?MODULE, Id}, fun ?MODULE:event/3, Tap}, infinity).

%% @doc Wherever it is installed, it removes itself at the next message.
-spec close(table(), tap()) -> ok.
close(Table, #tap{id = Id}) ->
    true = ets:delete(Table, Id),
    ok.

%% @doc Removes it now, unless the server is too busy for it, or gone.
-spec remove(pid(), tap()) -> ok.
remove(Server, #tap{id = Id}) ->
    try
        _ = sys:remove(Server, {?MODULE, Id}, 1000),
        ok
    catch
        exit:_ -> ok
    end.

%% @doc The bridge has taken one message.
-spec heard(tap()) -> ok.
heard(#tap{counts = Counts}) ->
    atomics:sub(Counts, ?UNDER_WAY, 1).

%% @doc The bridge is about to look at everything. Called before it does, so that what happens meanwhile is told.
-spec relisting(tap()) -> ok.
relisting(#tap{counts = Counts}) ->
    atomics:put(Counts, ?TOLD, 0).

%%% In the server's process

%% @private
-spec event(tap(), sys:system_event() | term(), term()) -> tap() | done.
event(#tap{table = Table, id = Id} = Tap, {in, Message}, _Server) ->
    try ets:member(Table, Id) of
        true -> about(Tap, about(Message));
        false -> done
    catch
        error:badarg -> done
    end;
event(#tap{about = nothing} = Tap, _, _) ->
    Tap;
event(Tap, {out, {error, _}, _, _}, _) ->
    about(Tap, nothing);
event(Tap, {out, _, _, State}, _) ->
    told(Tap, State);
event(Tap, {noreply, State}, _) ->
    told(Tap, State);
event(Tap, _, _) ->
    Tap.

about(#tap{about = About} = Tap, About) -> Tap;
about(Tap, About) -> Tap#tap{about = About}.

%% All that any version of erlmcp calls it. (What none does is seen when everything is looked at.)
about({'$gen_call', _, Request}) when is_tuple(Request), tuple_size(Request) >= 2 ->
    case kind(element(1, Request)) of
        none -> nothing;
        Kind -> {Kind, element(2, Request)}
    end;
about({'$gen_cast', {notify_resource_updated, Uri, _}}) ->
    {resource, Uri};
about({'$gen_cast', notify_resources_changed}) ->
    everything;
about(_) ->
    nothing.

kind(add_resource) -> resource;
kind(delete_resource) -> resource;
kind(add_tool) -> tool;
kind(add_tool_with_schema) -> tool;
kind(add_tool_with_description) -> tool;
kind(add_tool_full) -> tool;
kind(delete_tool) -> tool;
kind(add_prompt) -> prompt;
kind(add_prompt_with_args) -> prompt;
kind(add_prompt_with_args_and_schema) -> prompt;
kind(delete_prompt) -> prompt;
kind(_) -> none.

told(#tap{about = everything} = Tap, _State) ->
    relist(Tap),
    Tap#tap{about = nothing};
told(#tap{about = {Kind, Key} = Item, id = Id, bridge = Bridge, counts = Counts} = Tap, State) when is_binary(Key) ->
    case atomics:add_get(Counts, ?UNDER_WAY, 1) of
        N when N =< ?MOST_UNDER_WAY ->
            Bridge ! {?MODULE, Id, {changed, Item, erlmcp_shm_erlmcp:entry(Kind, Key, State)}},
            ok;
        _ ->
            ok = atomics:sub(Counts, ?UNDER_WAY, 1),
            relist(Tap)
    end,
    Tap#tap{about = nothing};
told(Tap, _State) ->
    Tap#tap{about = nothing}.

relist(#tap{id = Id, bridge = Bridge, counts = Counts}) ->
    case atomics:exchange(Counts, ?TOLD, 1) of
        0 ->
            Bridge ! {?MODULE, Id, relist},
            ok;
        1 ->
            ok
    end.
