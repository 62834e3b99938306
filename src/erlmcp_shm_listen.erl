%% @private
%% What a session is told without asking each time: that a list has changed, that a resource has.
%%
%% A session remembers, of whatever it is to be told of, how it looked when it told of it last. To collect is to look
%% again; so it makes no difference how many changes there were meanwhile, or how late it is.
-module(erlmcp_shm_listen).

-export([lists/1, subscribe/2, unsubscribe/2, listen/3, cancel/2, collect/1, close/1]).

-include("erlmcp_shm_endpoint.hrl").

-define(KINDS, [
    {resource, <<"resourcesListChanged">>, <<"notifications/resources/list_changed">>},
    {tool, <<"toolsListChanged">>, <<"notifications/tools/list_changed">>},
    {prompt, <<"promptsListChanged">>, <<"notifications/prompts/list_changed">>}
]).

%%% The session as a whole, until 2025-11-25

%% @doc From now on the session is told when a list changes.
-spec lists(#session{}) -> #session{}.
lists(S) ->
    #session{watch = Watch} = Watching = watching(S),
    Watching#session{watch = Watch#watch{lists = listed([Kind || {Kind, _, _} <- ?KINDS])}}.

%% @doc `resources/subscribe'.
-spec subscribe(Uri :: binary(), #session{}) -> {ok, #session{}} | {error, binary()}.
subscribe(Uri, S) ->
    #session{watch = #watch{uris = Uris} = Watch} = Watching = watching(S),
    case map_size(Uris) < ?MAX_SUBSCRIPTIONS of
        true -> {ok, Watching#session{watch = Watch#watch{uris = Uris#{Uri => erlmcp_shm_changes:version(Uri)}}}};
        false -> {error, <<"Too many subscriptions">>}
    end.

%% @doc `resources/unsubscribe'.
-spec unsubscribe(Uri :: binary(), #session{}) -> #session{}.
unsubscribe(Uri, #session{watch = #watch{uris = Uris} = Watch} = S) ->
    S#session{watch = Watch#watch{uris = maps:remove(Uri, Uris)}}.

%%% Streams, since 2026-07-28

%% @doc `subscriptions/listen': is acknowledged at once, and answered when it ends.
-spec listen(binary() | integer(), Filter :: map(), #session{}) ->
    {ok, [erlmcp_shm_endpoint:event()], #session{}} | {error, binary()}.
listen(Id, Filter, S) ->
    Uris = maps:get(<<"resourceSubscriptions">>, Filter, []),
    case is_list(Uris) andalso lists:all(fun is_binary/1, Uris) of
        false ->
            {error, <<"Invalid params: resourceSubscriptions">>};
        true when length(Uris) > ?MAX_SUBSCRIPTIONS; map_size(S#session.listens) >= ?MAX_CALLS ->
            {error, <<"Too many subscriptions">>};
        true ->
            #session{listens = Listens} = Watching = watching(S),
            Asked = [{Kind, Name} || {Kind, Name, _} <- ?KINDS, maps:get(Name, Filter, false) =:= true],
            Watch = #watch{
                lists = listed([Kind || {Kind, _} <- Asked]),
                uris = maps:from_list([{Uri, erlmcp_shm_changes:version(Uri)} || Uri <- Uris])
            },
            Lists = maps:from_list([{Name, true} || {_, Name} <- Asked]),
            Honoured =
                case Uris of
                    [] -> Lists;
                    _ -> Lists#{<<"resourceSubscriptions">> => Uris}
                end,
            Acknowledged = note(Id, <<"notifications/subscriptions/acknowledged">>, #{notifications => Honoured}),
            {ok, [Acknowledged], Watching#session{listens = Listens#{Id => Watch}}}
    end.

%% @doc The client wants no more of a stream.
-spec cancel(binary() | integer(), #session{}) -> {ok, #session{}} | error.
cancel(Id, #session{listens = Listens} = S) ->
    case Listens of
        #{Id := _} -> {ok, S#session{listens = maps:remove(Id, Listens)}};
        _ -> error
    end.

%% @doc Every stream ends with its result.
-spec close(#session{}) -> {[erlmcp_shm_endpoint:event()], #session{}}.
close(#session{listens = Listens} = S) ->
    Ends = [
        begin
            Result = #{resultType => <<"complete">>, '_meta' => #{?META_SUBSCRIPTION => Id}},
            {ok, Json} = erlmcp_shm_json:encode(#{jsonrpc => <<"2.0">>, id => Id, result => Result}),
            {reply, Id, 200, Json}
        end
     || Id <- maps:keys(Listens)
    ],
    {Ends, S#session{listens = #{}}}.

%%% Looking again

%% @doc Notifications of what has changed.
-spec collect(#session{}) -> {[erlmcp_shm_endpoint:event()], #session{}}.
collect(#session{changes = undefined} = S) ->
    {[], S};
collect(#session{changes = Changes, watch = Watch, listens = Listens} = S) ->
    %% First: what is published while we look wakes us again.
    ok = erlmcp_shm_changes:seen(Changes),
    {Own, NewWatch} = look(undefined, Watch),
    {Streams, NewListens} = lists:mapfoldl(
        fun({Id, Stream}, Done) ->
            {Notes, NewStream} = look(Id, Stream),
            {Notes, Done#{Id => NewStream}}
        end,
        #{},
        maps:to_list(Listens)
    ),
    {lists:append([Own | Streams]), S#session{watch = NewWatch, listens = NewListens}}.

look(Id, #watch{lists = Lists, uris = Uris}) ->
    Now = listed(maps:keys(Lists)),
    OfLists = [note(Id, Method, #{}) || {Kind, _, Method} <- ?KINDS, maps:find(Kind, Now) =/= maps:find(Kind, Lists)],
    Versions = maps:map(fun(Uri, _) -> erlmcp_shm_changes:version(Uri) end, Uris),
    OfUris = [
        note(Id, <<"notifications/resources/updated">>, #{uri => Uri})
     || {Uri, Version} <- maps:to_list(Versions), Version =/= maps:get(Uri, Uris)
    ],
    {OfLists ++ OfUris, #watch{lists = Now, uris = Versions}}.

listed(Kinds) ->
    Lists = erlmcp_shm_changes:lists(),
    maps:from_list([{Kind, maps:get(Kind, Lists, undefined)} || Kind <- Kinds]).

watching(#session{changes = undefined} = S) -> S#session{changes = erlmcp_shm_changes:subscribe()};
watching(S) -> S.

note(Id, Method, Params) ->
    Base = #{jsonrpc => <<"2.0">>, method => Method},
    Message =
        case Id of
            undefined when map_size(Params) =:= 0 -> Base;
            undefined -> Base#{params => Params};
            _ -> Base#{params => Params#{'_meta' => #{?META_SUBSCRIPTION => Id}}}
        end,
    {ok, Json} = erlmcp_shm_json:encode(Message),
    case Id of
        undefined -> {notify, Json};
        _ -> {about, Id, Json}
    end.
