%% @doc The MCP server for what is published: one session of it, as a value.
%%
%% It knows no transport and owns no process. A transport's process holds a session, gives it each message that comes
%% in ({@link handle/2}) and each Erlang message that it does not know itself ({@link info/2}), and does what the
%% events say that come back.
%%
%% Both eras of the protocol are served side by side. A request that names its protocol version in `_meta' is
%% served by that alone, without state; `initialize' begins a session of 2025-11-25 or earlier.
-module(erlmcp_shm_endpoint).

-export([new/1, handle/2, info/2, drain/1, close/1, pending/1, collect/1]).

-export_type([session/0, event/0, options/0]).

-include("erlmcp_shm_endpoint.hrl").

-type options() :: #{
    handler => erlmcp_shm_handler:handler(),
    page_size => pos_integer(),
    tool_timeout => timeout(),
    request_timeout => timeout(),
    %% There is no session to initialize.
    stateless => boolean()
}.

-opaque session() :: #session{}.

-type id() :: binary() | integer().

-type event() ::
    {reply, id() | undefined, Status :: 200 | 400 | 404, Json :: binary()}
    | {about, id(), Json :: binary()}
    | {notify, Json :: binary()}
    | {report, map()}
    | {owner, Json :: binary()}
    | {cancelled, id()}.
%% The answer to a request, with the status that it has over HTTP; a notification that belongs to a request; one
%% that belongs to the session; a client's own measurements; a message that is not for the endpoint; a request that
%% will have no answer.

%% @doc A session that nothing was said in yet.
-spec new(options()) -> session().
new(Options) ->
    #session{
        handler = maps:get(handler, Options, undefined),
        stateless = maps:get(stateless, Options, false),
        page_size = maps:get(page_size, Options, 200),
        tool_timeout = maps:get(tool_timeout, Options, 60000),
        request_timeout = maps:get(request_timeout, Options, 5000)
    }.

%% @doc A message from the client.
-spec handle(binary(), session()) -> {[event()], session()}.
handle(Text, S) ->
    case erlmcp_shm_json:decode(Text) of
        {ok, #{<<"jsonrpc">> := <<"2.0">>, <<"method">> := Method} = Message} when is_binary(Method) ->
            Params = maps:get(<<"params">>, Message, #{}),
            case Message of
                #{<<"id">> := Id} when is_binary(Id); is_integer(Id) -> request(Id, Method, Params, S);
                #{<<"id">> := _} -> {[refused(undefined, {-32600, <<"Invalid Request: id">>})], S};
                _ -> notification(Method, Params, Text, S)
            end;
        {ok, #{<<"jsonrpc">> := <<"2.0">>, <<"id">> := _} = Message} when
            is_map_key(<<"result">>, Message); is_map_key(<<"error">>, Message)
        ->
            case erlmcp_shm_asks:answered(map_get(<<"id">>, Message), Message, S) of
                {ok, New} -> {[], New};
                error -> {[{owner, Text}], S}
            end;
        {ok, _} ->
            {[refused(undefined, {-32600, <<"Invalid Request">>})], S};
        {error, _} ->
            {[refused(undefined, {-32700, <<"Parse error">>})], S}
    end.

%% @doc A message that the process got: from a handler, or that something was published.
-spec info(term(), session()) -> {[event()], session()} | unknown.
info({erlmcp_shm_reply, Call, Reply}, #session{calls = Calls} = S) ->
    case maps:take(Call, Calls) of
        {#call{id = Id} = What, Rest} ->
            {Cancelled, New} = erlmcp_shm_asks:forget(Call, Id, S#session{calls = Rest}),
            {Cancelled ++ [answered(What, Reply)], New};
        error ->
            {[], S}
    end;
info({erlmcp_shm_ask, Call, Requests}, #session{calls = Calls} = S) ->
    case Calls of
        #{Call := #call{id = Id, era = Era}} ->
            case erlmcp_shm_asks:requests(Call, Requests, S) of
                {ok, Asking, New} ->
                    {[{about, Id, Json} || Json <- Asking], New};
                {error, Error} ->
                    ok = erlmcp_shm_handler:cancel(Call),
                    {[refused(Id, Error, status(Era, Error))], S#session{calls = maps:remove(Call, Calls)}}
            end;
        _ ->
            {[], S}
    end;
info({erlmcp_shm_note, Call, From, Note}, #session{calls = Calls} = S) ->
    From ! {noted, Call},
    case Calls of
        #{Call := What} -> {noted(What, Note), S};
        _ -> {[], S}
    end;
info(erlmcp_shm_changed, S) ->
    collect(S);
info(_, _) ->
    unknown.

%% @doc What has changed since this was asked last, as notifications.
-spec collect(session()) -> {[event()], session()}.
collect(S) ->
    erlmcp_shm_listen:collect(S).

%% @doc Ends what would not end by itself: streams of notifications get their result. Calls go on.
-spec drain(session()) -> {[event()], session()}.
drain(S) ->
    erlmcp_shm_listen:close(S).

%% @doc Ends everything: calls are cancelled as well.
-spec close(session()) -> {[event()], session()}.
close(#session{calls = Calls} = S) ->
    lists:foreach(fun erlmcp_shm_handler:cancel/1, maps:keys(Calls)),
    drain(S#session{calls = #{}}).

%% @doc How many requests are being worked at.
-spec pending(session()) -> non_neg_integer().
pending(#session{calls = Calls}) ->
    map_size(Calls).

%%% Requests

request(Id, Method, Params, S) when is_map(Params) ->
    Meta =
        case Params of
            #{<<"_meta">> := #{} = Map} -> Map;
            _ -> #{}
        end,
    case {era(Method, Meta, S), is_used(Id, S)} of
        {{ok, Era}, false} ->
            served(Id, Era, {Method, Params, Meta}, erlmcp_shm_methods:call(Method, Params, Era, Id, S), S);
        {{ok, _}, true} ->
            {[refused(Id, {-32600, <<"Invalid Request: id is in use">>}, 400)], S};
        {{error, Error}, _} ->
            {[refused(Id, Error, 400)], S}
    end;
request(Id, _Method, _Params, S) ->
    {[refused(Id, {-32602, <<"Invalid params">>}, 400)], S}.

%% `modern': stateless, by what `_meta' says. `legacy': after `initialize'.
era(_, #{?META_VERSION := ?MODERN} = Meta, _) ->
    case {Meta, is_level(maps:get(?META_LOG_LEVEL, Meta, <<"error">>))} of
        {#{?META_CAPABILITIES := #{}}, true} -> {ok, modern};
        {#{?META_CAPABILITIES := #{}}, false} -> {error, {-32602, <<"Invalid params: ", ?META_LOG_LEVEL/binary>>}};
        _ -> {error, lacks(?META_CAPABILITIES)}
    end;
era(_, #{?META_VERSION := Version}, _) ->
    case lists:member(Version, ?LEGACY) of
        true -> {ok, legacy};
        false -> {error, unsupported(Version)}
    end;
era(<<"initialize">>, _, _) ->
    {ok, legacy};
era(Method, _, #session{version = Negotiated, stateless = Stateless}) when
    Negotiated =/= undefined; not Stateless, Method =:= <<"ping">>
->
    {ok, legacy};
era(_, _, _) ->
    {error, lacks(?META_VERSION)}.

lacks(Key) ->
    {-32602, <<"Invalid params: _meta lacks ", Key/binary>>}.

unsupported(Version) ->
    {-32022, <<"Unsupported protocol version">>, #{supported => [?MODERN | ?LEGACY], requested => Version}}.

is_used(Id, #session{calls = Calls, listens = Listens}) ->
    is_map_key(Id, Listens) orelse lists:any(fun(#call{id = Used}) -> Used =:= Id end, maps:values(Calls)).

served(Id, Era, _, {ok, Result}, S) ->
    {[result(Id, Era, Result)], S};
served(Id, Era, _, {ok, Result, New}, _) ->
    {[result(Id, Era, Result)], New};
served(_, _, _, {events, Events, New}, _) ->
    {Events, New};
served(Id, Era, _, {error, Error}, S) ->
    {[refused(Id, Error, status(Era, Error))], S};
served(Id, Era, _, {call, _, _}, #session{calls = Calls} = S) when map_size(Calls) >= ?MAX_CALLS ->
    {[refused(Id, {-32603, <<"Too many requests at once">>}, status(Era, {-32603, <<>>}))], S};
served(Id, Era, Asking, {call, Request, Wrap}, S) ->
    case handler(S) of
        undefined -> served(Id, Era, Asking, Wrap({error, not_found}), S);
        Handler -> called(Id, Era, Asking, Handler, Request, Wrap, S)
    end.

%% Looked for at each call: the node may have been given its own after the session began.
handler(#session{handler = undefined}) -> erlmcp_shm_handler:get();
handler(#session{handler = Handler}) -> Handler.

called(Id, Era, {Method, Params, Meta}, Handler, Request, Wrap, S) ->
    Origin = erlmcp_shm_asks:origin(Method, Params),
    case erlmcp_shm_asks:given(Origin, Era, Params) of
        {ok, Inputs, State} ->
            {Capabilities, Level} = client(Era, Meta, S),
            Given = #{
                meta => Meta,
                capabilities => Capabilities,
                inputs => Inputs,
                state => State,
                asks => Era =:= legacy andalso Origin =/= undefined
            },
            What = #call{
                id = Id,
                era = Era,
                wrap = Wrap,
                origin = Origin,
                capabilities = Capabilities,
                token = maps:get(<<"progressToken">>, Meta, undefined),
                level = Level
            },
            Call = erlmcp_shm_handler:start(Handler, Request, Given, deadline(Request, S)),
            {[], S#session{calls = (S#session.calls)#{Call => What}}};
        {error, Error} ->
            {[refused(Id, Error, status(Era, Error))], S}
    end.

%% What a client can be asked, and what it wants logged.
client(modern, Meta, _) -> {map_get(?META_CAPABILITIES, Meta), maps:get(?META_LOG_LEVEL, Meta, undefined)};
client(legacy, _, #session{capabilities = Capabilities, level = Level}) -> {Capabilities, Level}.

deadline({call_tool, _, _}, #session{tool_timeout = Timeout}) -> Timeout;
deadline(_, #session{request_timeout = Timeout}) -> Timeout.

answered(#call{id = Id, era = Era, wrap = Wrap, origin = Origin, capabilities = Capabilities}, Reply) ->
    Answer =
        case Reply of
            {ask, Requests, State} when Origin =/= undefined -> erlmcp_shm_asks:result(Requests, State, Origin, Capabilities);
            timeout -> {error, {-32603, <<"Deadline exceeded">>}};
            {exit, _} -> {error, {-32603, <<"Internal error">>}};
            _ -> Wrap(Reply)
        end,
    case Answer of
        {ok, Result} -> result(Id, Era, Result);
        {error, Error} -> refused(Id, Error, status(Era, Error))
    end.

noted(#call{id = Id, token = Token}, {progress, Progress, Total, Message}) when Token =/= undefined ->
    Given = [{K, V} || {K, V} <- [{total, Total}, {message, Message}], V =/= undefined],
    Params = (maps:from_list(Given))#{progressToken => Token, progress => Progress},
    about(Id, <<"notifications/progress">>, Params);
noted(#call{id = Id, level = Least}, {log, Level, Data}) when Least =/= undefined ->
    case is_level(Level) andalso not lists:member(Level, lists:takewhile(fun(L) -> L =/= Least end, ?LEVELS)) of
        true -> about(Id, <<"notifications/message">>, #{level => Level, data => Data});
        false -> []
    end;
noted(_, _) ->
    [].

is_level(Level) ->
    lists:member(Level, ?LEVELS).

%% A note that is not JSON is the handler's mistake, and no reason to end its call.
about(Id, Method, Params) ->
    case erlmcp_shm_json:encode(#{jsonrpc => <<"2.0">>, method => Method, params => Params}) of
        {ok, Json} -> [{about, Id, Json}];
        {error, _} -> []
    end.

%%% Notifications

notification(<<"notifications/cancelled">>, #{<<"requestId">> := Id}, Text, #session{calls = Calls} = S) ->
    case [Call || {Call, #call{id = Called}} <- maps:to_list(Calls), Called =:= Id] of
        [Call] ->
            ok = erlmcp_shm_handler:cancel(Call),
            {_, New} = erlmcp_shm_asks:forget(Call, Id, S#session{calls = maps:remove(Call, Calls)}),
            {[{cancelled, Id}], New};
        [] ->
            case erlmcp_shm_listen:cancel(Id, S) of
                {ok, New} -> {[{cancelled, Id}], New};
                error -> {[{owner, Text}], S}
            end
    end;
notification(<<"notifications/initialized">>, _, Text, S) ->
    {[{owner, Text}], S};
notification(<<"notifications/erlmcp/client_metrics">>, #{} = Report, Text, S) ->
    {[{report, Report}, {owner, Text}], S};
notification(_, _, Text, S) ->
    {[{owner, Text}], S}.

%%% Answers

result(Id, Era, Result) ->
    case erlmcp_shm_json:encode(#{jsonrpc => <<"2.0">>, id => Id, result => of_era(Era, Result)}) of
        {ok, Json} -> {reply, Id, 200, Json};
        {error, {not_json, _}} -> refused(Id, {-32603, <<"Internal error: the result is not JSON">>}, 200)
    end.

%% A result says of which type it is and who it is from, since the revision that has no session to know it by.
of_era(legacy, Result) ->
    Result;
of_era(modern, Result) ->
    Meta = maps:get('_meta', Result, maps:get(<<"_meta">>, Result, #{})),
    Whole = (maps:without([<<"_meta">>, <<"resultType">>], Result))#{
        '_meta' => Meta#{?META_SERVER_INFO => erlmcp_shm_mcp:server_info()}
    },
    maps:merge(#{resultType => maps:get(<<"resultType">>, Result, <<"complete">>)}, Whole).

%% Over HTTP, a method that there is not is a page that there is not, and what a client cannot do, its mistake to ask for.
status(modern, {-32601, _}) -> 404;
status(modern, {-32021, _, _}) -> 400;
status(_, _) -> 200.

refused(undefined, Error) ->
    refused(undefined, Error, 400).

refused(Id, Error, Status) ->
    Base = #{jsonrpc => <<"2.0">>, error => error_object(Error)},
    {ok, Json} = erlmcp_shm_json:encode(
        case Id of
            undefined -> Base;
            _ -> Base#{id => Id}
        end
    ),
    {reply, Id, Status, Json}.

error_object({Code, Message}) -> #{code => Code, message => Message};
error_object({Code, Message, Data}) -> #{code => Code, message => Message, data => Data}.
