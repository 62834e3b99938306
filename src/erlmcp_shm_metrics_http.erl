%% @private
%% The node's figures, where a scraper asks for them.
-module(erlmcp_shm_metrics_http).

-behaviour(cowboy_handler).

-export([init/2]).

-spec init(cowboy_req:req(), Route :: map()) -> {ok, cowboy_req:req(), map()}.
init(#{method := Method} = Req, Route) when Method =:= <<"GET">>; Method =:= <<"HEAD">> ->
    Headers = #{<<"content-type">> => <<"text/plain; version=0.0.4; charset=utf-8">>},
    {ok, cowboy_req:reply(200, Headers, erlmcp_shm_metrics:prometheus(), Req), Route};
init(Req, Route) ->
    Allowed = cowboy_req:set_resp_header(<<"allow">>, <<"GET, HEAD">>, Req),
    {ok, erlmcp_shm_admission:refuse(405, -32600, <<"Method not allowed">>, Allowed), Route}.
