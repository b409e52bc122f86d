# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
"""A model of a tenant's pages: writers that split them, readers, a rotation, and the first bulk write.

Entries: ('page', place) is (key version, items); ('rec', 0) is (active version, phase of the rotation); ('key', version).
H gives each item's hash, C the rules: BASE is the protocol, and each mutation below leaves one of them out.
"""
from mc import *
C={}
BASE=dict(cap=1,guard=1,recheckleft='list',bothchildren=1,relook=1,tell='after',order='cd',nilroot=1,multi='new',bulkroot=1,bulkorder='cd',bulkempty=1,sharedw=1,ackearly=0,dropdir=1,rootlist=1,getp=1,leftverify=1,hidnil='put',sweepleft=1)
H={'x':'00','y':'01','z':'10'}
A=('active',)   # volatile-free: active version is stored under ('rec',0) -> (active, phase)
REC=('rec',0)
def route(d,h):
    for i in range(len(h)+1):
        if h[:i] in d: return h[:i]
    return None
def loaddir():
    d=yield('mget','dir')
    if d is not None: return d
    g=yield('mget','gen')
    L=yield('list','page')
    yield('mfun','install',g,L)
    return L
def drop():
    if C['dropdir']: yield('mfun','dropd')
@prog
def write(item,val):
    h=H[item]; tries=0
    yield('ghost','begin',item,val)
    if C['sharedw']: yield('lock','T','S')
    rec=yield('get',REC); act=rec[0]; del rec
    while True:
        tries+=1
        if tries>4: return '500'
        d=yield from loaddir()
        p=route(d,h); p='' if p is None else p; del d
        yield('lock','P'+p,'X')
        if C['relook']:
            d=yield from loaddir(); q=route(d,h)
            if q is None and p=='':
                if C['rootlist']: d=yield('list','page')
                if d: yield from drop(); d=q=None; yield('unlock','P'+p); continue
                new=True; items=()
            elif q!=p: d=q=None; yield('unlock','P'+p); continue
            else: new=False
            d=q=None
        else: new=False
        if not new:
            pg=yield('get',('page',p))
            if pg is None:
                yield from drop()
                if C['hidnil']=='put':
                    d=yield('list','page')
                    if route(d,h)!=p: d=None; yield('unlock','P'+p); continue
                    d=None; items=()     # listed under the lock, yet nil: hidden by a stale cache
                else: yield('unlock','P'+p); continue
            else:
                k=yield('get',('key',pg[0]))
                if k is None: raise Violation('writer: key %s gone'%pg[0])
                k=None; items=pg[1]
            pg=None
        it=dict(items); items=None
        if val is None: it.pop(item,None)
        else: it[item]=val
        it=tuple(sorted(it.items()))
        if len(it)<=C['cap'] or len(p)>=2:
            r=yield('put',('page',p),(act,it)); it=None
            if r=='err': yield from drop(); return '500'
            if new: yield('mfun','tell','',(p,))
            yield('ghost','ack',item,val); return 'ok'
        c0=tuple(x for x in it if H[x[0]][len(p)]=='0'); c1=tuple(x for x in it if H[x[0]][len(p)]=='1'); it=None
        r='ok'
        if C['tell']=='before': yield('mfun','tell',p,(p+'0',p+'1'))
        for o in C['order']:
            if o=='c':
                if c0 or C['bothchildren']: r=yield('put',('page',p+'0'),(act,c0))
                if r=='err': yield from drop(); return '500'
                if c1 or C['bothchildren']: r=yield('put',('page',p+'1'),(act,c1))
                if r=='err': yield from drop(); return '500'
                if C['ackearly']: yield('ghost','ack',item,val)
            else:
                r=yield('del',('page',p))
                if r=='err': yield from drop(); return '500'
        if C['tell']=='after': yield('mfun','tell',p,(p+'0',p+'1'))
        yield('ghost','ack',item,val); return 'ok'
@prog
def bulk(i1,v1,i2,v2):
    # The first write of a tenant, of so much that it splits twice at once: the root,
    # empty, then all pages that are to hold the items, then the root goes.
    yield('ghost','begin',i1,v1); yield('ghost','begin',i2,v2)
    yield('lock','T','S')
    rec=yield('get',REC); act=rec[0]; del rec
    d=yield from loaddir(); del d
    yield('lock','P','X')
    d=yield('list','page'); items=()
    if C['multi']=='new' and d: yield from drop(); return 'page by page'
    if C['multi']=='any':
        if d and '' not in d: return 'page by page'
        if d:
            pg=yield('get',('page',''))
            if pg is None: return '500'
            items=pg[1]; pg=None
    it=dict(items); it[i1]=v1; it[i2]=v2; it=tuple(sorted(it.items())); items=None
    if not d and C['bulkroot']:
        r=yield('put',('page',''),(act,()))
        if r=='err': yield from drop(); return '500'
        yield('mfun','tell','',('',))
    d=None
    leaves=('00','01','10','11')
    if C['bulkorder']=='dc':
        r=yield('del',('page',''))
        if r=='err': yield from drop(); return '500'
    for p in leaves:
        mine=tuple(x for x in it if H[x[0]]==p)
        if not mine and not C['bulkempty']: continue
        r=yield('put',('page',p),(act,mine))
        if r=='err': yield from drop(); return '500'
    mine=p=None
    if C['bulkorder']=='cd':
        r=yield('del',('page',''))
        if r=='err': yield from drop(); return '500'
    yield('mfun','tell','',leaves)
    yield('ghost','ack',i1,v1); yield('ghost','ack',i2,v2); return 'ok'
@prog
def read(item):
    h=H[item]; yield('ghost','rbegin',item)
    for t in (1,2,3,4):
        d=yield from loaddir(); p=route(d,h); d=None
        if p is None: yield('ghost','read',item,None); return
        pg=yield('get',('page',p))
        if pg is None: yield from drop(); continue
        k=yield('get',('key',pg[0]))
        if k is None: 
            if C.get('rretry',1): pg=None; continue
            raise Violation('reader: key of page gone')
        yield('ghost','read',item,dict(pg[1]).get(item)); return
@prog
def sweepone(p,anc):
    yield('lock','T','S')
    rec=yield('get',REC)
    if anc is not None:
        yield('lock','P'+anc,'X')
        m=C['recheckleft']; ok=True
        if m=='list': L=yield('list','page'); ok=anc in L; L=None
        elif m=='dir': L=yield from loaddir(); ok=anc in L; L=None
        elif m=='get': g=yield('get',('page',anc)); ok=g is not None; g=None
        elif m=='dirget':
            L=yield from loaddir(); g=yield('get',('page',anc)); ok=anc in L and g is not None
            if g is None: yield from drop()
            L=g=None
        if ok:
            r=yield('del',('page',p))
            if r=='err': yield from drop()
            elif C['dropdir']: yield('mfun','tell',p,())
        return
    yield('lock','P'+p,'X')
    L=yield from loaddir(); ok=p in L; L=None
    if not ok: return
    pg=yield('get',('page',p))
    if pg is None:
        yield from drop()
        if C['hidnil']=='put':
            L=yield('list','page')
            if p in L: r=yield('put',('page',p),(rec[0],()))
        return
    if pg[0]==rec[0]: return
    r=yield('put',('page',p),(rec[0],pg[1]))
    if r=='err': yield from drop()
@prog
def rot():
    yield('lock','T','X')
    rec=yield('get',REC)
    if rec[1]=='idle' and rec[0]==1:
        r=yield('put',REC,(2,'sweeping'))
        while r=='err': r=yield('put',REC,(2,'sweeping'))
        rec=(2,'sweeping')
    yield('unlock','T'); r=None
    if rec[1]=='idle': return

    while True:
      while rec[1]=='sweeping':
          L=yield('list','page'); todo=()
          for p in L:
              anc=tuple(a for a in L if a!=p and p.startswith(a))
              pg=yield('get',('page',p))
              if pg is None or pg[0]!=2 or (anc and C['sweepleft']=='all'):
                  todo+=((p,min(anc,key=len) if anc and C['sweepleft'] else None),)
          L=anc=pg=p=None
          if not todo: break
          for t in todo: yield('spawn','w'+t[0],'sweepone',t)
          yield('join',tuple('w'+t[0] for t in todo)); t=todo=None
      yield('lock','T','X')
      L=yield('list','page'); bad=False
      for p in L:
        pg=yield('get',('page',p))
        if pg is None or pg[0]!=2: bad=True
      L=pg=p=None
      if not bad: break
      bad=None
      yield('unlock','T')
    r=yield('put',REC,(2,'retiring'))
    while r=='err': r=yield('put',REC,(2,'retiring'))
    r=yield('del',('key',1))
    while r=='err': r=yield('del',('key',1))
    r=yield('put',REC,(2,'idle'))
    while r=='err': r=yield('put',REC,(2,'idle'))
class Split(Model):
    recover=None; init_pages=None
    def init(self,s):
        s.store={REC:(1,'idle'),('key',1):1,('key',2):1}
        for p,v in (self.init_pages or {}).items():
            s.store[('page',p)]=(1,v)
            for i,a in v: s.ghost['al',i]=(a,)
    def crashed(self,s,infl):
        if s.store[REC][1]!='idle' or view(s,REC)[1]!='idle': s.thr['rotR']=tstart('rot',()); self.runeager(s,'rotR')
        for k in [k for k in s.ghost if k[0]=='rd']: del s.ghost[k]
    def install(self,n,g,L):
        if C['guard'] and n.mem.get('gen')!=g: return False
        n.mem['dir']=L; return True
    def dropd(self,n): n.mem.pop('dir',None); n.mem['gen']=((n.mem.get('gen') or 0)+1)%6
    def tell(self,n,rem,add):
        n.mem['gen']=((n.mem.get('gen') or 0)+1)%6
        if 'dir' in n.mem: n.mem['dir']=tuple(sorted((set(n.mem['dir'])-{rem})|set(add)))
    def ghost(self,s,slot,op):
        if op[1]=='begin':
            s.ghost['al',op[2]]=tuple(sorted(set(s.ghost.get(('al',op[2]),(None,)))|{op[3]},key=str))
        elif op[1]=='ack': s.ghost['al',op[2]]=(op[3],)
        elif op[1]=='rbegin': s.ghost['rd',slot]=s.ghost.get(('al',op[2]),(None,)); return
        elif op[1]=='read':
            al=set(s.ghost.pop(('rd',slot),()))|set(s.ghost.get(('al',op[2]),(None,)))
            if op[3] not in al: raise Violation('I1: reader of %s got %s, allowed %s'%(op[2],op[3],al))
            return
        for k in list(s.ghost):
            if k[0]=='rd': s.ghost[k]=tuple(sorted(set(s.ghost[k])|set(s.ghost.get(('al',op[2]),(None,))),key=str))
    def check(self,s):
        L=lsub(s,'page')
        for nm,get in (('store',s.store.get),('view',lambda k:view(s,k))):
            for it,h in H.items():
                al=s.ghost.get(('al',it),(None,)); p=route(L,h)
                pg=get(('page',p)) if p is not None else None
                if p is None and L and h: 
                    raise Violation('I1: hole: no page for %s in %s'%(it,L))
                v=None
                if pg is not None:
                    if ('key',pg[0]) not in s.store and al!=(None,): raise Violation('I3 (%s): live page %s=%s key destroyed'%(nm,p,pg))
                    v=dict(pg[1]).get(it)
                if v not in al: raise Violation('I1 (%s): %s reads %s allowed %s; pages %s'%(nm,it,v,al,{q:get(('page',q)) for q in L}))
        rec=s.store[REC]
        if rec==(2,'idle'):
            for q in L:
                if s.store[('page',q)][0]!=2: raise Violation('I5: page %s on old version'%q)
    def rest(self,s):
        if view(s,REC)[1]!='idle': raise Violation('I4 rest')
def go(nm,cl,err=1,crash=1,init=None,quiet=True,tmax=60,**cfg):
    import mc; mc._int.clear(); mc._tab.clear(); mc._nxt.clear()
    C.clear(); C.update(BASE); C.update(cfg)
    m=Split(); m.clients=cl; m.err=err; m.crash=crash; m.init_pages=init; m.sample=C.pop('samp',0)
    try: return m.run(nm,quiet=quiet,tmax=tmax)
    except Exception as e: print('[%s] EXC %r'%(nm,e),flush=True); raise
W=lambda i,v,after=():('write',(i,v),after,False)
R=lambda i,after=():('read',(i,),after,False)
ROT=('rot',(),(),False)
X1={'':(('x','a'),)}
B=lambda a,b,c,d,after=():('bulk',(a,b,c,d),after,False)
if __name__=='__main__':
    import sys
    bk=B('x','a','y','b')
    print('== bulk into an empty tenant')
    go('bulk + writer e1 c1',{'b':bk,'w':W('z','c')},tmax=200)
    go('bulk + rotation e1 c0',{'b':bk,'r':ROT},crash=0,tmax=200)
    go('bulk, rotation e1 c1',{'b':bk,'r':('rot',(),('b',),False)},tmax=200)
    go('bulk + reader, writer after e1 c1',{'b':bk,'rd':R('x'),'w':W('x','d',('b',))},tmax=200)
    go('bulk, two writers e2 c1',{'b':bk,'w1':W('x','c',('b',)),'w2':W('y','d',('w1',))},err=2,tmax=200)
    go('two bulks e1 c1',{'b':bk,'b2':B('x','c','z','d')},tmax=200)
    go('bulk, split, rotation e2 c0',{'b':bk,'w1':W('x','c',('b',)),'r':('rot',(),('w1',),False)},err=2,crash=0,tmax=200)
    go('writer fails, bulk, writer e2 c1',{'w1':W('x','a'),'b':B('y','b','z','c',('w1',)),'w2':W('x','d',('b',))},err=2,tmax=200)
    print('== mutations')
    go('several levels of a tenant that has pages',{'w1':W('y','b'),'b':B('y','c','z','d',('w1',))},init=X1,err=2,crash=0,multi='any')
    go('no root above the pages',{'b':bk},err=1,crash=1,bulkroot=0)
    go('root goes first',{'b':bk},err=1,crash=1,bulkorder='dc')
    go('empty pages left out',{'b':bk},err=0,crash=0,bulkempty=0)
