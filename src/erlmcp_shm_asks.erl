%% @private
%% What a handler needs to know of the client before it can answer: a text from its model, a form filled in, its roots.
%%
%% A handler says so by replying `{ask, Requests, State}', and is called once more with what the client has answered.
%% Since 2026-07-28 the client does that: the request ends with what it is to find out, and it asks anew with that. So
%% nothing is kept here meanwhile; `State' travels through the client, sealed, and is good for the same request only.
%% Before, the requests are sent to the client while it waits ({@link requests/3}), and the process of the call, which
%% waits as well, holds `State'.
-module(erlmcp_shm_asks).

-export([origin/2, given/3, result/4, requests/3, answered/3, forget/3]).

-include("erlmcp_shm_endpoint.hrl").

-export_type([origin/0]).

-type origin() :: {Method :: binary(), Salient :: map()}.

-type rpc_error() :: {integer(), binary()} | {integer(), binary(), map()}.

-define(KEY, {?MODULE, key}).
%% How long a client may keep a state.
-define(STATE_S, 600).
-define(IV_BYTES, 12).
-define(TAG_BYTES, 16).

%% @doc What a state is bound to, for a request whose handler may ask at all.
-spec origin(Method :: binary(), Params :: map()) -> origin() | undefined.
origin(Method, Params) when Method =:= <<"tools/call">>; Method =:= <<"prompts/get">>; Method =:= <<"resources/read">> ->
    {Method, maps:with([<<"name">>, <<"uri">>, <<"arguments">>], Params)};
origin(_, _) ->
    undefined.

%% @doc What a request brings along of the answers to an earlier one.
-spec given(origin() | undefined, modern | legacy, Params :: map()) ->
    {ok, Inputs :: map(), State :: term()} | {error, rpc_error()}.
given(undefined, _, _) ->
    {ok, #{}, undefined};
given(_, legacy, _) ->
    {ok, #{}, undefined};
given(Origin, modern, Params) ->
    Inputs = maps:get(<<"inputResponses">>, Params, #{}),
    case is_map(Inputs) andalso lists:all(fun is_map/1, maps:values(Inputs)) of
        true ->
            case unsealed(maps:get(<<"requestState">>, Params, undefined), Origin) of
                {ok, State} -> {ok, Inputs, State};
                error -> {error, {-32602, <<"Invalid params: requestState">>}}
            end;
        false ->
            {error, {-32602, <<"Invalid params: inputResponses">>}}
    end.

%% @doc The result that tells the client what it is to find out.
-spec result(Requests :: term(), State :: term(), origin(), Capabilities :: map()) -> {ok, map()} | {error, rpc_error()}.
result(Requests, undefined, _, _) when Requests =:= #{} ->
    {error, {-32603, <<"Internal error: nothing is asked">>}};
result(Requests, State, Origin, Capabilities) ->
    case lacking(Requests, Capabilities) of
        none ->
            Asked = maps:map(fun(_, {Method, Params}) -> #{method => Method, params => Params} end, Requests),
            Result = #{resultType => <<"input_required">>, inputRequests => Asked},
            {ok,
                case State of
                    undefined -> Result;
                    _ -> Result#{requestState => sealed(State, Origin)}
                end};
        {error, _} = Error ->
            Error
    end.

%%% Until 2025-11-25

%% @doc The same as requests of ours, each under an id that tells whose answer it gets.
-spec requests(erlmcp_shm_handler:call(), Requests :: map(), #session{}) ->
    {ok, [Json :: binary()], #session{}} | {error, rpc_error()}.
requests(Call, Requests, #session{capabilities = Capabilities, asked = Asked} = S) ->
    case lacking(Requests, Capabilities) of
        none ->
            Numbered = [{erlang:unique_integer([positive]), Key, Request} || {Key, Request} <- maps:to_list(Requests)],
            Encoded = [
                erlmcp_shm_json:encode(#{jsonrpc => <<"2.0">>, id => Id, method => Method, params => Params})
             || {Id, _, {Method, Params}} <- Numbered
            ],
            New = maps:from_list([{Id, {Call, Key}} || {Id, Key, _} <- Numbered]),
            case [Json || {ok, Json} <- Encoded] of
                Sent when length(Sent) =:= length(Encoded) -> {ok, Sent, S#session{asked = maps:merge(Asked, New)}};
                _ -> {error, {-32603, <<"Internal error: what is asked is not JSON">>}}
            end;
        {error, _} = Error ->
            Error
    end.

%% @doc The client's answer to one of them.
-spec answered(Id :: term(), Message :: map(), #session{}) -> {ok, #session{}} | error.
answered(Id, Message, #session{asked = Asked} = S) ->
    case maps:take(Id, Asked) of
        {{Call, Key}, Rest} ->
            ok = erlmcp_shm_handler:answer(Call, Key, outcome(Message)),
            {ok, S#session{asked = Rest}};
        error ->
            error
    end.

outcome(#{<<"result">> := #{} = Result}) -> {ok, Result};
outcome(#{<<"error">> := #{<<"code">> := Code, <<"message">> := Message}}) when is_integer(Code), is_binary(Message) -> {error, {Code, Message}};
outcome(_) -> {error, {-32603, <<"The client's answer is none">>}}.

%% @doc A call has ended: the client need not go on with what it has not answered.
-spec forget(erlmcp_shm_handler:call(), Id :: binary() | integer(), #session{}) -> {[erlmcp_shm_endpoint:event()], #session{}}.
forget(Call, Id, #session{asked = Asked} = S) ->
    Open = [Number || {Number, {Whose, _}} <- maps:to_list(Asked), Whose =:= Call],
    Cancelled = [
        begin
            {ok, Json} = erlmcp_shm_json:encode(#{
                jsonrpc => <<"2.0">>, method => <<"notifications/cancelled">>, params => #{requestId => Number}
            }),
            {about, Id, Json}
        end
     || Number <- Open
    ],
    {Cancelled, S#session{asked = maps:without(Open, Asked)}}.

%%% What a client can be asked

lacking(#{} = Requests, Capabilities) ->
    Needed = [needed(Request) || Request <- maps:values(Requests)],
    case lists:member(unknown, Needed) orelse not lists:all(fun is_binary/1, maps:keys(Requests)) of
        true -> {error, {-32603, <<"Internal error: nothing that a client can be asked">>}};
        false -> lacking([Path || Path <- Needed, not has(Path, Capabilities)])
    end;
lacking(_, _) ->
    lacking(#{<<>> => unknown}, #{}).

lacking([]) ->
    none;
lacking([[Name | _] | _] = Missing) ->
    Required = lists:foldl(fun require/2, #{}, Missing),
    {error, {-32021, <<"This needs a capability of the client: ", Name/binary>>, #{requiredCapabilities => Required}}}.

%% The capability that a request takes, as the path to it.
needed({<<"elicitation/create">>, #{} = Params}) ->
    case maps:get(mode, Params, maps:get(<<"mode">>, Params, undefined)) of
        <<"url">> -> [<<"elicitation">>, <<"url">>];
        _ -> [<<"elicitation">>]
    end;
needed({<<"sampling/createMessage">>, #{} = Params}) ->
    case is_map_key(tools, Params) orelse is_map_key(<<"tools">>, Params) of
        true -> [<<"sampling">>, <<"tools">>];
        false -> [<<"sampling">>]
    end;
needed({<<"roots/list">>, #{}}) ->
    [<<"roots">>];
needed(_) ->
    unknown.

has([], _) -> true;
has([Name | Path], #{} = Capabilities) when is_map_key(Name, Capabilities) -> has(Path, map_get(Name, Capabilities));
has(_, _) -> false.

require([], Required) -> Required;
require([Name | Path], Required) -> Required#{Name => require(Path, maps:get(Name, Required, #{}))}.

%%% States

sealed(State, Origin) ->
    Iv = crypto:strong_rand_bytes(?IV_BYTES),
    Text = term_to_binary({erlang:system_time(second) + ?STATE_S, State}),
    {Sealed, Tag} = crypto:crypto_one_time_aead(aes_256_gcm, key(), Iv, Text, bound(Origin), ?TAG_BYTES, true),
    base64:encode(<<Iv/binary, Tag/binary, Sealed/binary>>).

unsealed(undefined, _) ->
    {ok, undefined};
unsealed(Given, Origin) ->
    try
        <<Iv:?IV_BYTES/binary, Tag:?TAG_BYTES/binary, Sealed/binary>> = base64:decode(Given),
        Text = crypto:crypto_one_time_aead(aes_256_gcm, key(), Iv, Sealed, bound(Origin), Tag, false),
        %% Nobody but us has written that.
        {Until, State} = binary_to_term(Text),
        true = erlang:system_time(second) =< Until,
        {ok, State}
    catch
        error:_ -> error
    end.

bound(Origin) ->
    crypto:hash(sha256, term_to_binary(Origin, [deterministic])).

%% One for as long as the node runs: what was sealed before is asked for once more.
key() ->
    case persistent_term:get(?KEY, undefined) of
        undefined ->
            Make = fun() ->
                case persistent_term:get(?KEY, undefined) of
                    undefined -> persistent_term:put(?KEY, crypto:strong_rand_bytes(32));
                    _ -> ok
                end
            end,
            ok = global:trans({?KEY, self()}, Make, [node()]),
            persistent_term:get(?KEY);
        Key ->
            Key
    end.
